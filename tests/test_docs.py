"""Every code block of the documentation runs, and the API has a page for every name."""

import importlib.util
import re
from pathlib import Path

import pytest

import adaptive_optax as ao
from tests.test_readme import blocks

DOCS = Path(__file__).parent.parent / "docs"
# Longer runs, or many compilations. The build of the site executes the first two.
SLOW = {"reading_a_run.md", "getting_started.md"}
SLOW |= {
    f"howto/{name}.md"
    for name in ("trainers", "accumulation", "populations", "own_rule", "feedback")
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
    namespace = {"display": lambda *_: None}
    for number, block in enumerate(blocks(PAGES[page])):
        missing = [m for m in needed(block) if importlib.util.find_spec(m) is None]
        if not missing:
            code = compile(block, f"{page}, block {number}", "exec")
            exec(code, namespace)


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


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: p.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s:]+)[)#]", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
