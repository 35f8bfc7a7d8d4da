"""A log of every scoring of held-out workloads: tuning on them would show."""

from typing import Any

from benchmarks import standings
from benchmarks.summary import RESULTS

LOG = RESULTS / "held_out.md"
HEAD = (
    "# Every scoring of the held-out workloads\n\n"
    "The law is never tuned on them. Each run that computes one of their cells "
    "adds a row: final metric over the oracle's, and the self-tuning score.\n\n"
    "| date | commit | law | nudge x1 | search x0.01 | search x100 | score |\n"
    "|---|---|---|---|---|---|---|\n"
)
RATIOS = (("nudge", "x1"), ("search", "x0.01"), ("search", "x100"))


def log(table: dict[str, Any]) -> None:
    """Add a row of a summary with held-out workloads."""
    if not LOG.exists():
        LOG.write_text(HEAD)
    over = standings.names(table, "held_out")
    ratios = [
        standings.final_ratio(table, standings.Entry(name, name, "own"), label, over)
        for name, label in RATIOS
    ]
    score = next(
        s.score
        for s in standings.standings(table, "held_out", "self_tuning")
        if s.entry.title == "nudge"
    )
    row = (table["date"], table["commit"], table["law"], *ratios, score)
    with LOG.open("a") as file:
        file.write("| " + " | ".join(map(format, row)) + " |\n")
