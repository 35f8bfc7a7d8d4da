"""The report: who is better, and where we lose, first."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import aims, details, figures, markdown, protocol, scoring, standings
from benchmarks.standings import Entry
from benchmarks.summary import RESULTS

LOSS = 1.02  # a ratio above this is a loss, below 1 / this a win


def write(table: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``REPORT.md`` and its figures; return the report's path."""
    drawn = figures.draw(table, folder / "figures")
    parts = [
        _head(table),
        _ranking(table),
        _where_we_lose(table),
        _aims(table),
        _profiles(table, drawn),
        _misspecification(table, drawn),
        details.recovery(table),
        details.traces(drawn),
        details.cost(folder / "cost.json"),
        details.per_workload(table),
        details.failures(table),
        details.setting(table),
    ]
    path = folder / "REPORT.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n")
    return path


def _splits(table: dict) -> list[str]:
    return [split for split in standings.SPLITS if standings.names(table, split)]


def _head(table: dict) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in table["versions"].items())
    kinds = [table["workloads"][name]["split"] for name in standings.names(table)]
    held = kinds.count("held_out")
    return (
        f"# Who is better\n\n"
        f"`{table['command']}`, then `python -m benchmarks report --suite "
        f"{table['suite']}`; {table['date']}, commit `{table['commit']}`, law "
        f"`{table['law']}`, {versions}. {len(kinds)} workloads ({held} held out), "
        f"{len(table['peers'])} peers, {len(table['seeds'])} seeds, "
        f"{table['seconds'] / 3600:.1f} core hours.\n\n"
        "A ratio is a final held-out metric over that of the *oracle*, cosine with "
        "warm-up at its best rate; below 1 is better. Brackets are 95 % bootstrap "
        "intervals over seeds and workloads. Ours are bold."
    )


def _ranking(table: dict) -> str:
    parts = [
        "## Ranking: self-tuning\n\nOne published default rate, no trials. "
        "The score is that of the performance profile below; progress is the share of "
        "the oracle's way that a run has gone by its end, on a log scale."
    ]
    for split in _splits(table):
        rows = [
            (
                standing.rank,
                standings.titled(table, standing.entry),
                standing.score,
                standing.progress,
                standing.ratio,
                f"{standing.solved}/{len(standings.names(table, split))}",
                standing.diverged,
                standing.raised,
            )
            for standing in standings.standings(table, split, "self_tuning")
        ]
        head = ("", "peer", "score", "progress", "final / oracle", "solved", "diverged",
                "raised")  # fmt: skip
        parts.append(
            f"### {standings.said(split).capitalize()} workloads\n\n"
            + markdown.table(head, rows)
        )
    return "\n\n".join(parts)


def _where_we_lose(table: dict) -> str:
    """`nudge` against the plain choices, and against the best when nobody tunes."""
    split = _splits(table)[0]
    best = [
        standing.entry
        for standing in standings.standings(table, split, "self_tuning")
        if not table["peers"][standing.entry.peer]["ours"]
    ]
    against = [
        ("x1", aims.AVERAGED_CONSTANT, "at the base rate"),
        ("x1", Entry("cosine", "cosine", "own"), "at the base rate, the oracle"),
        *(("default", entry, "self-tuning") for entry in best[:3]),
    ]
    rows, tally = [], []
    for label, rival, what in against:
        ratios = standings.losses(table, aims.NUDGE, rival, label)
        lost = [(n, i) for n, i in ratios if i.value > LOSS]
        won = sum(i.value < 1 / LOSS for _, i in ratios)
        tally.append(
            (f"{rival.title} ({what})", won, len(ratios) - won - len(lost), len(lost))
        )
        rows += [
            (
                f"{rival.title}, {label}",
                name,
                table["workloads"][name]["split"],
                interval,
            )
            for name, interval in lost
        ]
    return (
        f"## Where we lose\n\nFinal metric of **nudge** over a rival's on the same "
        f"seeds; a tie is within {LOSS - 1:.0%}.\n\n"
        + markdown.table(("against", "won", "tied", "lost"), tally)
        + "\n\n<details><summary>Every loss</summary>\n\n"
        + markdown.table(("against", "workload", "split", "ours / theirs"), rows)
        + "\n\n</details>"
    )


def _aims(table: dict) -> str:
    if not standings.names(table, "held_out"):
        return ""
    rows = [
        (aim.figure, aim.wanted, aim.measured, "yes" if aim.met else "**no**")
        for aim in aims.aims(table)
    ]
    return "## What the law is held to\n\nHeld-out workloads.\n\n" + markdown.table(
        ("figure", "wanted", "is", "met"), rows
    )


def _profiles(table: dict, drawn: dict[str, Path]) -> str:
    parts = [
        "## Time to target\n\nThe share of workloads that a peer solves within τ times "
        "the fastest peer's steps; the score is its mean over "
        f"1 ≤ τ ≤ {scoring.R_MAX:g}."
        f"\n\n![self-tuning](figures/{drawn['profile_self_tuning'].name})\n\n"
        "External tuning: the same five trials for everyone, the best of each study "
        "counts.\n\n"
        f"![external tuning](figures/{drawn['profile_external_tuning'].name})"
    ]
    for split in _splits(table):
        rows = [
            (
                standing.rank,
                standings.titled(table, standing.entry),
                standing.score,
                standing.ratio,
            )
            for standing in standings.standings(table, split, "external_tuning")
        ]
        parts.append(
            f"<details><summary>External tuning, {standings.said(split)}</summary>\n\n"
            + markdown.table(("", "peer", "score", "final / oracle"), rows)
            + "\n\n</details>"
        )
    return "\n\n".join(parts)


def _misspecification(table: dict, drawn: dict[str, Path]) -> str:
    parts = [
        "## A wrong base rate\n\nFinal metric over the oracle's, geometric mean. A "
        "learning-rate-free peer is the same everywhere."
        f"\n\n![misspecification](figures/{drawn['misspecification'].name})"
    ]
    for split in _splits(table):
        curves = standings.misspecification(table, split)
        order = sorted(curves, key=lambda row: _mean_log(curves[row]))
        rows = [
            (
                standings.titled(table, row),
                *curves[row],
                f"{math.exp(_mean_log(curves[row])):.2f}",
            )
            for row in order
        ]
        head = ("peer", *protocol.MISSPECIFIED, "mean")
        parts.append(
            f"### {standings.said(split).capitalize()} workloads\n\n"
            + markdown.table(head, rows)
        )
    return "\n\n".join(parts)


def _mean_log(intervals: list[scoring.Interval]) -> float:
    return float(np.mean([math.log(interval.value) for interval in intervals]))
