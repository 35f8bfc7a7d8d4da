"""The report: who is better, and where we lose, first."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import aims, figures, protocol, scoring, standings
from benchmarks.standings import Entry
from benchmarks.summary import RESULTS

LOSS = 1.02  # a ratio above this is a loss, below 1 / this a win


def write(table: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``REPORT.md`` and its figures; return the report's path."""
    drawn = figures.draw(table, folder / "figures")
    cost = folder / "cost.json"
    parts = [
        _head(table),
        _ranking(table),
        _where_we_lose(table),
        _aims(table),
        _profiles(table, drawn),
        _misspecification(table, drawn),
        _recovery(table),
        _traces(drawn),
        _cost(json.loads(cost.read_text())) if cost.exists() else "",
        _per_workload(table),
        _failures(table),
        _setting(table),
    ]
    path = folder / "REPORT.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n")
    return path


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(format(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _splits(table: dict) -> list[str]:
    return [split for split in standings.SPLITS if standings.names(table, split)]


def _said(split: str) -> str:
    return split.replace("_", "-")


def _name(table: dict, entry: Entry) -> str:
    return f"**{entry.title}**" if table["peers"][entry.peer]["ours"] else entry.title


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
                _name(table, standing.entry),
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
            f"### {_said(split).capitalize()} workloads\n\n" + _table(head, rows)
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
        + _table(("against", "won", "tied", "lost"), tally)
        + "\n\n<details><summary>Every loss</summary>\n\n"
        + _table(("against", "workload", "split", "ours / theirs"), rows)
        + "\n\n</details>"
    )


def _aims(table: dict) -> str:
    if not standings.names(table, "held_out"):
        return ""
    rows = [
        (aim.figure, aim.wanted, aim.measured, "yes" if aim.met else "**no**")
        for aim in aims.aims(table)
    ]
    return "## What the law is held to\n\nHeld-out workloads.\n\n" + _table(
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
                _name(table, standing.entry),
                standing.score,
                standing.ratio,
            )
            for standing in standings.standings(table, split, "external_tuning")
        ]
        parts.append(
            f"<details><summary>External tuning, {_said(split)}</summary>\n\n"
            + _table(("", "peer", "score", "final / oracle"), rows)
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
            (_name(table, row), *curves[row], f"{math.exp(_mean_log(curves[row])):.2f}")
            for row in order
        ]
        head = ("peer", *protocol.MISSPECIFIED, "mean")
        parts.append(
            f"### {_said(split).capitalize()} workloads\n\n" + _table(head, rows)
        )
    return "\n\n".join(parts)


def _mean_log(intervals: list[scoring.Interval]) -> float:
    return float(np.mean([math.log(interval.value) for interval in intervals]))


def _recovery(table: dict) -> str:
    over = standings.disturbed(table)
    if not over:
        return ""
    rows = []
    for entry in standings.entries(table):
        cells = [_name(table, entry)]
        for name in over:
            run = table["runs"][name][entry.peer]
            if run["error"] is not None:
                cells.append("raised")
                continue
            steps = standings.values(table, "recovery", entry, "x1", [name])[0]
            middle = float(np.median(steps))
            back = int(np.isfinite(steps).sum())
            cells.append(
                f"{middle:g} ({back}/{len(steps)})" if math.isfinite(middle)
                else f"never ({back}/{len(steps)})"
            )  # fmt: skip
        rows.append(cells)
    facts = [
        f"{name} ({table['workloads'][name]['split'].replace('_', '-')})"
        for name in over
    ]
    return (
        "## After a shift or a spike\n\nSteps from the disturbance until the metric is "
        "back, for good, within 1.5 times what the best constant rate had before it; "
        "base rate x1, median, and how many seeds came back. Everybody else's step is "
        "skipped where a gradient is not finite (`optax.apply_if_finite`).\n\n"
        + _table(("peer", *facts), rows)
    )


def _traces(drawn: dict[str, Path]) -> str:
    return (
        "## What the controller did\n\n"
        f"![control traces](figures/{drawn['traces'].name})"
    )


def _cost(cost: dict) -> str:
    from benchmarks import cost as costs

    return "## What it costs\n\n`python -m benchmarks cost`\n\n" + costs.table(cost)


def _per_workload(table: dict) -> str:
    """Final ratios at the base rate: the raw material of every mean above."""
    over = standings.names(table)
    rows = []
    for entry in standings.entries(table):
        finals = standings.values(table, "final", entry, "x1", over)
        ratios = np.median(finals, axis=1) / standings.oracle(table, over)[:, 0]
        rows.append((_name(table, entry), *(f"{ratio:.2f}" for ratio in ratios)))
    return (
        "## Every workload\n\n<details><summary>Median final metric over the oracle's, "
        "base rate x1</summary>\n\n" + _table(("peer", *over), rows) + "\n\n</details>"
    )


def _failures(table: dict) -> str:
    raised = [
        (peer, name, run["error"])
        for name, of_peer in table["runs"].items()
        for peer, run in of_peer.items()
        if run["error"] is not None
    ]
    over = standings.names(table)
    labels = ("default", *protocol.MISSPECIFIED)
    rows = [
        (_name(table, entry), *(standings.count(table, "diverged", entry, label, over)
                                for label in labels))
        for entry in standings.entries(table)
    ]  # fmt: skip
    rows = [row for row in rows if any(row[1:])]
    total = len(over) * len(table["seeds"])
    return (
        f"## Diverged and failed\n\nRuns, of {total}, that ended above the metric they "
        "began with or not at a number; they count with the metric they began with.\n\n"
        + _table(("peer", *labels), rows)
        + "\n\n"
        + (
            _table(("peer", "workload", "raised"), raised)
            if raised
            else "No peer raised an error."
        )
    )


def _setting(table: dict) -> str:
    rows = [
        (
            name,
            _said(facts["split"]),
            facts["optimizer"],
            facts["horizon"],
            facts["batch_size"] or "all",
            facts["metric"],
            *(f"{facts[k]:.3g}" for k in ("base_rate", "start", "oracle", "target")),
            f"{facts['floor']:.1g}",
        )
        for name, facts in table["workloads"].items()
    ]
    head = ("workload", "split", "optimizer", "steps", "batch", "metric", "base rate",
            "start", "oracle", "target", "floor")  # fmt: skip

    def mark(yes: bool) -> str:
        return "yes" if yes else ""

    marks = ("free", "knows_horizon", "own_optimizer")
    peers = [
        (f"`{name}`", *(mark(peer[key]) for key in marks), peer["source"])
        for name, peer in table["peers"].items()
    ]
    return (
        "## The setting\n\n"
        "Time is counted in steps: what a step costs is measured by itself, since on "
        "models this small the scalar work of any controller outweighs the model. "
        "Self-tuning here has the same horizon as tuning, not AlgoPerf's threefold. "
        "A metric is clipped to [floor, start]. The base rates come from "
        f"`{protocol.ORACLE_COMMAND}`: three rates a decade, bracketed, on seeds of "
        "their own.\n\n"
        + _table(head, rows)
        + "\n\n<details><summary>Peers</summary>\n\n"
        + _table(("peer", "rate-free", "knows the horizon", "own optimizer", "source"),
                 peers)
        + "\n\n</details>"
    )  # fmt: skip
