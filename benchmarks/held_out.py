"""A log of every held-out scoring, and the draw seeds that they used up.

A draw seed is scored once. A second scoring of the same draws would be tuning on them.
"""

import datetime
import re
import secrets
from pathlib import Path
from typing import Any

from benchmarks import cells, families, hashes, scoring, standings
from benchmarks.protocol import NEAR
from benchmarks.summary import RESULTS

LOG = RESULTS / "held_out.md"
COMPARED = RESULTS / "compared.md"
PENDING = cells.CACHE / "draw-seed"  # of a full run that has not ended
HEAD = (
    "# Every held-out scoring\n\n## Draws\n\n"
    "Each row is one run of the full suite on draws that no run had used before. "
    "Figures: geometric mean of the final metric over the best of three tuned "
    "schedules, with 95 % intervals.\n\n"
    "| draw seed | date | commit | law | nudge x1 | nudge x0.3 to x3 | nudge, all "
    "rates |\n"
    "|---|---|---|---|---|---|---|\n"
)


def used(log: Path = LOG) -> frozenset[int]:
    """The draw seeds in the log."""
    lines = log.read_text().splitlines() if log.exists() else []
    first = [line.strip("| ").split(" ")[0] for line in lines if line.startswith("|")]
    return frozenset(int(seed) for seed in first if seed.isdecimal())


def compared(log: Path = COMPARED) -> frozenset[int]:
    """The draw seeds on which two laws were compared."""
    text = log.read_text() if log.exists() else ""
    return frozenset(map(int, re.findall(r"^## Draw seed (\d+)", text, re.MULTILINE)))


def fresh(log: Path = LOG) -> int:
    """A draw seed that no earlier run used."""
    taken = used(log) | compared() | {families.DEVELOPMENT}
    while (seed := secrets.randbelow(1_000_000)) in taken:
        pass
    return seed


def refuse_used(seed: int, log: Path = LOG) -> None:
    """Refuse the development seed, and one that is in the log.

    Raises:
      ValueError: If the seed cannot be scored.
    """
    if seed == families.DEVELOPMENT:
        raise ValueError(
            f"draw seed {seed} is the development list; leave --draw-seed out and a "
            "fresh one is drawn."
        )
    if seed in used(log) | compared():
        raise ValueError(
            f"draw seed {seed} has been scored ({log.name}); leave --draw-seed out and "
            "a fresh one is drawn."
        )


def begin(seed: int | None, log: Path = LOG, pending: Path = PENDING) -> int:
    """The draw seed of a full run: the one given, an interrupted run's, or a fresh one.

    Raises:
      ValueError: If the one given cannot be scored.
    """
    if seed is None and pending.exists():
        seed = int(pending.read_text())
    seed = fresh(log) if seed is None else seed
    refuse_used(seed, log)
    pending.parent.mkdir(parents=True, exist_ok=True)
    pending.write_text(f"{seed}\n")
    return seed


def record(table: dict[str, Any], log: Path = LOG, pending: Path = PENDING) -> None:
    """Add a row of a full run's summary."""
    if not log.exists():
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(HEAD)
    figures = [
        scoring.mean(standings.ratio(table, standings.NUDGE, labels))
        for labels in (["x1"], NEAR, standings.LABELS)
    ]
    row = (table["draw_seed"], table["date"], table["commit"], table["law"], *figures)
    with log.open("a") as file:
        file.write("| " + " | ".join(map(format, row)) + " |\n")
    pending.unlink(missing_ok=True)


def note(seed: int, text: str, log: Path = COMPARED) -> None:
    """Add a comparison of two laws on held-out draws."""
    head = "" if log.exists() else "# Two laws on draws that no run had used before\n"
    when = f"{datetime.date.today().isoformat()}, law `{hashes.law_hash()}`"
    with log.open("a") as file:
        file.write(f"{head}\n## Draw seed {seed}, {when}\n\n{text}\n")
