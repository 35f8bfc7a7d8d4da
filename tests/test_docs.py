"""Every code block of the documentation runs, and the API has a page for every name."""

import importlib.util
import re
import tomllib

import jax
import jax.numpy as jnp
import optax
import pytest

import adaptive_optax as ao
from tests.test_readme import README, ROOT, blocks

DOCS = ROOT / "docs"
# Longer runs, or many compilations. The build of the site executes the first two.
SLOW = {"reading_a_run.md", "getting_started.md"}
SLOW |= {
    f"howto/{name}.md"
    for name in ("trainers", "accumulation", "populations", "own_rule", "feedback")
}
TEXTS = {
    path: path.read_text()
    for path in sorted(
        [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/**/*.md")]
    )
    if "_build" not in path.parts and "generated" not in path.parts
}
PAGES = {
    str(path.relative_to(DOCS)): path.read_text()
    for path in sorted(DOCS.rglob("*.md"))
    if "_build" not in path.parts and blocks(path.read_text())
}


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p in SLOW else ()) for p in PAGES],
)
def test_the_blocks_of_a_page_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = started() if page == "index.md" else {}
    for number, block in enumerate(blocks(PAGES[page])):
        missing = [m for m in needed(block) if importlib.util.find_spec(m) is None]
        if not missing:
            code = compile(block, f"{page}, block {number}", "exec")
            exec(code, namespace)
    if page == "reading_a_run.md":
        quoted = README.partition("    step 3: the start was")[2].partition("\n\n")[0]
        told = ao.explain(namespace["high"])
        assert " ".join(quoted.split()) in told


def started():
    """What a run holds before the three lines that the first page shows of it."""
    params = {"w": jnp.ones(3)}
    loss, grads = jax.value_and_grad(lambda p: jnp.sum(p["w"] ** 2))(params)
    state = ao.adaptive_scheduler(optax.adam, learning_rate=1e-3).init(params)
    return {**globals(), **locals()}


def test_no_code_is_without_a_fence():
    for path in TEXTS:
        outside = re.sub(r"^```.*?^```", "", TEXTS[path], flags=re.M | re.S)
        assert not re.findall(r"^ {4}\w.*\b(?:ao|jax|tx)\.\w+", outside, re.M), path


def needed(block):
    """Optional packages that a block imports."""
    return set(re.findall(r"^(?:import|from) (equinox|flax|keras)\b", block, re.M))


@pytest.mark.parametrize("name", ao.__all__)
def test_every_public_name_has_a_page(name):
    index = (DOCS / "api" / "index.md").read_text()
    assert re.search(rf"^( +{name}|.*adaptive_optax\.{name})$", index, re.MULTILINE)


@pytest.mark.parametrize("name", ao.rules.__all__)
def test_every_rule_has_a_page(name):
    rules = (DOCS / "api" / "index.md").read_text().split("adaptive_optax.rules\n")[-1]
    assert f"\n   {name}\n" in rules.split("Filters\n---")[0]


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text()
    listed = {f"{line}.md" for line in index.splitlines()} | {"index.md"}
    pages = {path.relative_to(DOCS) for path in DOCS.rglob("*.md")}
    assert {str(p) for p in pages if "_build" not in p.parts} <= listed


def test_every_name_in_the_pages_exists():
    for page, text in PAGES.items():
        for name in set(re.findall(r"\bao\.(\w+)", text)):
            assert hasattr(ao, name), f"{page}: ao.{name}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    found = re.findall(r"\]\(([^)#\s:]+)?(?:#([^)\s]+))?\)", TEXTS[path])
    for file, anchor in found:
        target = path.parent / file
        assert target.exists(), f"{path.name}: {file}"
        if anchor and target.suffix == ".md":
            there = TEXTS.get(target.resolve()) or target.read_text()
            assert anchor in map(slug, headings(there)), f"{path.name}: #{anchor}"


def headings(text):
    """Lines that begin with "#", code left out; underlined ones in reStructuredText."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    underlined = re.findall(r"^(\w.*)\n-+$", text, re.M) if "{eval-rst}" in text else []
    return re.findall(r"^#+ .*$", prose, re.M) + [f"## {line}" for line in underlined]


def slug(heading):
    """The anchor that GitHub and MyST make of a heading."""
    words = re.sub(r"[^\w\s-]", "", heading.lstrip("# ").lower())
    return words.replace(" ", "-")


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_headings_go_down_one_level_at_a_time(path):
    levels = [len(line.split()[0]) for line in headings(TEXTS[path])]
    assert levels[:1] in ([], [1]) and levels.count(1) <= 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_picture_says_what_it_shows(path):
    text = TEXTS[path]
    figure = r"^```\{(?:image|figure)\} .*\n"
    told = re.findall(r"!\[([^\]]*)\]\(", text)
    told += re.findall(r"<img [^>]*?alt=\"([^\"]*)\"", text)
    told += re.findall(rf"{figure}(?::(?!alt).*\n)*:alt: (.*)", text, re.M)
    assert len(told) == len(re.findall(rf"<img |!\[|{figure}", text, re.M))
    cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```", text, re.M | re.S)
    for cell in (cell for cell in cells if re.search(r"^ao\.plot_", cell, re.M)):
        told += re.findall(r"^    alt: (.*)$", cell, re.M) or [""]
    assert all(len(words) > 20 for words in told), told


def test_every_command_exists():
    module = (ROOT / "benchmarks" / "__main__.py").read_text()
    for path, text in TEXTS.items():
        for command in re.findall(r"python -m benchmarks (\w+)", text):
            known = rf"^(def {command}\(|from .* import {command}$)"
            assert re.search(known, module, re.MULTILINE), f"{path.name}: {command}"


def test_the_address_of_the_repository_is_written_once():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"repository-code: {urls['Repository']}\n" in citation
    issues = (ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml").read_text()
    assert f"url: {urls['Documentation']}faq.html\n" in issues
    for path, text in TEXTS.items():
        assert urls["Repository"] not in text, path
