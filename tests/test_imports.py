"""Imports run one way, and only JAX, Optax and NumPy are needed at run time."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "adaptive_optax"
# The floors of the house, from the ground up: a room may import from below its own.
FLOORS = [
    {"_reasons"},
    {
        "_versions",
        "_types",
        "_checks",
        "_trees",
        "_axes",
        "_memory",
        "_containers",
        "_signatures",
        "law",
    },
    {"_arguments", "events"},
    {"sense", "rules", "freeze"},
    {"supervise", "act"},
    {"state", "options"},
    {"agreement"},
    {"stages"},
    {"recording", "observe"},
    {"loop"},
    {"scheduler"},
    {"optimizers"},
    {"online"},
    {"train_state", "scale"},
    {"watch"},
    {"__init__", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
LAZY = {
    "watch": {"matplotlib", "rich"},
    "train_state": {"flax"},
    "__main__": {"tyro"},
}
RUNTIME = {"jax", "optax", "numpy"}
MODULES = sorted(PACKAGE.rglob("*.py"), key=str)


def module_name(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """(top-level name, our module or None) for each import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, *rest = alias.name.split(".")
                yield top, rest[0] if rest else None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            top, *rest = node.module.split(".")
            if rest or top != "adaptive_optax":
                yield top, rest[0] if rest else None
            else:
                for alias in node.names:
                    yield top, alias.name


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    here = module_name(path)
    assert here in LEVEL, f"give {here} a floor in {Path(__file__).name}"
    for top, theirs in imported(path):
        if top == "adaptive_optax":
            allowed = LEVEL[theirs] < LEVEL[here] or here == theirs
            assert allowed, f"{here} imports {theirs}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_else_is_needed_at_run_time(path):
    allowed = RUNTIME | {"adaptive_optax"} | LAZY.get(module_name(path), set())
    for top, _ in imported(path):
        assert top in allowed or top in sys.stdlib_module_names, f"{path}: {top}"


def test_rules_need_nothing_but_types_checks_and_numbers():
    for path in (PACKAGE / "rules").glob("*.py"):
        ours = {theirs for top, theirs in imported(path) if top == "adaptive_optax"}
        assert ours <= {"_reasons", "_types", "_checks", "law", "rules"}, path.name


def test_the_package_imports_no_extra():
    code = (
        "import sys, adaptive_optax; "
        "print(*{'flax', 'matplotlib', 'chex', 'tqdm'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    # Optax itself may import chex.
    assert set(run.stdout.split()) <= {"chex"}


@pytest.mark.parametrize("module", ["flax", "matplotlib"])
def test_a_missing_extra_is_named(module, monkeypatch):
    import adaptive_optax.watch.plot as plotting

    for name in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    if module == "matplotlib":
        with pytest.raises(ImportError, match=r'install "adaptive_optax\[plot\]"'):
            plotting.plot_history({"loss": [1.0]})
    else:
        monkeypatch.delitem(sys.modules, "adaptive_optax.train_state", raising=False)
        with pytest.raises(ImportError, match=r'install "adaptive_optax\[flax\]"'):
            import adaptive_optax.train_state  # noqa: F401
