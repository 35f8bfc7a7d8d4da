"""The table of faults: each has one place, a test to see it, and no file is left out.

What the faults show, `python -m tests.mutants` tells; it takes too long for a test.
"""

import ast
from pathlib import Path

import pytest

from tests import mutants
from tests.mutant_table import MUTANTS

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / mutants.PACKAGE
FILES = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}


def has_logic(path):
    """Whether anything is done in a function, and not only said of it."""
    return any(
        isinstance(node, ast.FunctionDef)
        and not all(
            isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
            for line in node.body
        )
        for node in ast.walk(ast.parse(path.read_text()))
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.file}: {m.old}")
def test_a_fault_has_one_place_and_leaves_a_program(mutant):
    source = FILES[mutant.file].read_text()
    assert source.count(mutant.old) == 1
    broken = ast.dump(ast.parse(mutants.with_fault(source, mutant)))
    assert broken != ast.dump(ast.parse(source))


def test_every_file_has_a_fault():
    with_logic = {name for name, path in FILES.items() if has_logic(path)}
    assert {mutant.file for mutant in MUTANTS} == with_logic
    assert "__init__.py" not in with_logic and len(with_logic) > 30


def test_no_fault_is_tried_twice():
    assert len(set(MUTANTS)) == len(MUTANTS)


@pytest.mark.parametrize("name", sorted({name for m in MUTANTS for name in m.tests}))
def test_a_fault_names_tests_that_exist(name):
    assert (TESTS / name).exists()


@pytest.mark.parametrize(
    "code, output, expected",
    [
        (0, "3 passed", (mutants.SURVIVED, "")),
        (
            1,
            "FAILED tests/test_a.py::test_b - assert\n",
            (mutants.KILLED, "tests/test_a.py::test_b"),
        ),
        (1, "ERROR tests/test_a.py - ImportError\n", ("exit 1", "tests/test_a.py")),
        (2, "no tests", ("exit 2", "")),
        (5, "no tests", ("exit 5", "")),
    ],
)
def test_only_a_test_that_fails_kills(code, output, expected):
    assert mutants.verdict(code, output) == expected
