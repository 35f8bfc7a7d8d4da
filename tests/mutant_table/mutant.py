"""What a fault is, and how those of a file are written down."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault."""

    file: str  # in the package
    old: str  # occurs exactly once in it
    new: str
    tests: tuple[str, ...]  # files below tests/


def of(file: str, tests: str, *faults: tuple[str, str]) -> tuple[Mutant, ...]:
    """The faults of one file, all for the same tests."""
    return tuple(Mutant(file, old, new, tuple(tests.split())) for old, new in faults)


JUDGES = " ".join(
    f"supervise/test_{name}.py"
    for name in (
        "supervisor",
        "start_audit",
        "trial",
        "skip",
        "rollback",
        "runs",
        "unpunished",
    )
)
