"""How much the tests notice: one small fault at a time, and whether a test fails.

    python -m tests.mutants --only supervise --jobs 2 --output mutants.md

For every entry of `mutant_table` the fault is written into a copy of the repository,
and the tests of that file are run there, with the file's own doctests. A fault that a
test sees is killed; one that passes survives, and shows what nothing tests. Anything
else (no test could be collected, a fixture broke, time ran out) is said to be what it
is, and is no success. The tests themselves have to pass before: a failing one kills
everything.

The table is of single faults, chosen by hand: a sample, no proof.
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutant_table import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent
PACKAGE = "adaptive_optax"
# All that a test reads.
NEEDED = (
    PACKAGE,
    "tests",
    "benchmarks",
    "examples",
    "docs",
    ".github",
    ".ci",
    "README.md",
    "CITATION.cff",
    "pyproject.toml",
)
PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "--tb=line", "--hypothesis-seed=0")
# Two runs may write one entry of the cache at a time; who reads half of it compiles.
PYTEST += ("-W", "ignore:Error reading persistent compilation cache")
TIMEOUT = 1800.0  # seconds for the tests of one fault
KILLED, SURVIVED = "killed", "survived"


class Outcome(NamedTuple):
    """What became of a fault."""

    mutant: Mutant
    said: str
    by: str  # the test that failed
    seconds: float


def copy_repository(to: Path) -> None:
    """Copy what the tests need: the files under version control as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *NEEDED],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def with_fault(source: str, mutant: Mutant) -> str:
    """The source of a file with one fault in it.

    Raises:
      ValueError: If the place of the fault is not exactly one.
    """
    found = source.count(mutant.old)
    if found != 1:
        raise ValueError(f"{mutant.file} holds {mutant.old!r} {found} times, not once.")
    return source.replace(mutant.old, mutant.new)


def verdict(code: int, output: str) -> tuple[str, str]:
    """What an exit of pytest says, and the test that failed.

    Stopped at its first error, pytest exits with 1 for a broken import as well; only a
    test that failed has seen the fault.
    """
    failed = re.search(r"^FAILED (.+?)(?: - |$)", output, re.MULTILINE)
    if code == 0:
        return SURVIVED, ""
    if code == 1 and failed:
        return KILLED, failed[1]
    error = re.search(r"^ERROR (.+?)(?: - |$)", output, re.MULTILINE)
    return f"exit {code}", error[1] if error else ""


def try_one(mutant: Mutant, folder: Path, environment: dict[str, str]) -> Outcome:
    """Run the tests of one fault in a copy of the repository, and mend the copy."""
    path = folder / PACKAGE / mutant.file
    tests = [f"tests/{name}" for name in mutant.tests]
    command = [sys.executable, "-m", "pytest", *PYTEST, *tests, str(path)]
    healthy, start = path.read_text(), time.perf_counter()
    path.write_text(with_fault(healthy, mutant))
    try:
        run = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            timeout=TIMEOUT,
            capture_output=True,
            text=True,
        )
        said, by = verdict(run.returncode, run.stdout)
    except subprocess.TimeoutExpired:
        said, by = "timed out", ""
    finally:
        path.write_text(healthy)
        # What Hypothesis found with one fault would be tried first with the next.
        shutil.rmtree(folder / ".hypothesis", ignore_errors=True)
    return Outcome(mutant, said, by, time.perf_counter() - start)


def try_all(mutants: Sequence[Mutant], jobs: int, cache: Path) -> Iterator[Outcome]:
    """Try faults in as many copies of the repository as there are jobs."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # Compiled bytecode is told apart by its source's size and second alone.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    free: queue.Queue[Path] = queue.Queue()

    def one(mutant: Mutant) -> Outcome:
        folder = free.get()
        try:
            return try_one(mutant, folder, environment)
        finally:
            free.put(folder)

    with tempfile.TemporaryDirectory() as folders, ThreadPoolExecutor(jobs) as pool:
        for job in range(jobs):
            copy_repository(Path(folders) / str(job))
            free.put(Path(folders) / str(job))
        yield from pool.map(one, mutants)


def row(outcome: Outcome) -> str:
    """One line of the table."""
    mutant, said, by, seconds = outcome
    cells = (
        mutant.file,
        f"{_code(mutant.old)} → {_code(mutant.new)}",
        f"{said} by {by.removeprefix('tests/')}" if by else said,
        f"{seconds:.0f}",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(snippet: str) -> str:
    shown = " ".join(snippet.split())
    return f"`{shown}`" if shown else "nothing"


def written(outcomes: Iterable[Outcome], output: Path | None) -> list[Outcome]:
    """Print and write the table, a line as soon as it is known; the outcomes."""
    done: list[Outcome] = []
    file = open(output, "w") if output else None

    def say(line: str) -> None:
        for target in (sys.stdout, file):
            print(line, file=target, flush=True) if target else None

    say("| file | fault | outcome | seconds |\n|---|---|---|---|")
    for outcome in outcomes:
        say(row(outcome))
        done.append(outcome)
    counts = {kind: sum(o.said == kind for o in done) for kind in (KILLED, SURVIVED)}
    others = len(done) - sum(counts.values())
    say(
        f"\n{counts[KILLED]} killed, {counts[SURVIVED]} survived"
        + (f", {others} neither" if others else "")
    )
    if file:
        file.close()
    return done


def main() -> int:
    """Read the command line; 0 where every fault was killed, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="files whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="faults tried at a time")
    parser.add_argument("--output", type=Path, help="file for the table, in Markdown")
    parser.add_argument("--cache", type=Path, help="folder for compiled programs")
    given = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if given.only in mutant.file]
    if not chosen:
        files = ", ".join(sorted({mutant.file for mutant in MUTANTS}))
        parser.error(f"no file's name contains {given.only!r}; there are {files}")
    with tempfile.TemporaryDirectory() as temporary:
        cache = (given.cache or Path(temporary)).resolve()
        done = written(try_all(chosen, max(given.jobs, 1), cache), given.output)
    return int(any(outcome.said != KILLED for outcome in done))


if __name__ == "__main__":
    sys.exit(main())
