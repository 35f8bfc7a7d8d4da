"""No file of the repository is over 250 lines, and no function over 80."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = (".ci", "adaptive_optax", "benchmarks", "docs", "examples", "tests")
FILES = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not {"_build", "venv"} & set(path.relative_to(ROOT).parts)
}
FILES[".ci/matrix"] = (ROOT / ".ci" / "matrix").read_text()  # in Python too


def lines(function):
    """How many lines the body of a function has, without its docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_no_file_holds_two_ideas():
    long = {name: len(text.splitlines()) for name, text in FILES.items()}
    assert len(long) > 300
    assert {name: n for name, n in long.items() if n > 250} == {}


def test_no_function_needs_scrolling():
    long = [  # a list: a file may have many functions of one name
        (name, node.name, lines(node))
        for name, text in FILES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(long) > 3000
    assert [one for one in long if one[2] > 80] == []
