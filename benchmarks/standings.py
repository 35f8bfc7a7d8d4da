"""What the protocols say: entries, scores and ratios, from a summary.

An entry is a peer with one way to evaluate it: the parameters that it names itself. For
peers that are not ours there is a second entry with the judge's polynomial average of
the parameters, so that what averaging earns is not credited to a controller.
"""

from typing import Any, NamedTuple

import numpy as np

from benchmarks import protocol, scoring
from benchmarks.scoring import Interval
from benchmarks.summary import array

SPLITS = ("held_out", "development")


class Entry(NamedTuple):
    """A row of every table."""

    title: str
    peer: str
    kind: str  # "own", "average" or "last"


class Standing(NamedTuple):
    """An entry's place under one protocol."""

    entry: Entry
    rank: int
    score: Interval  # integrated performance profile
    ratio: Interval  # final metric over the oracle, geometric mean
    progress: Interval  # share of the oracle's way, on a log scale
    solved: int  # workloads whose target the median run reaches
    diverged: int  # runs, of all seeds and workloads
    raised: int  # workloads on which the peer raised


def entries(table: dict[str, Any]) -> list[Entry]:
    """Every peer, and every other peer with averaged parameters."""
    rows = []
    for name, peer in table["peers"].items():
        rows.append(Entry(name, name, "own"))
        if not peer["ours"]:
            rows.append(Entry(f"{name} + average", name, "average"))
    return rows


def titled(table: dict[str, Any], entry: Entry) -> str:
    """The entry's title, ours in bold."""
    return f"**{entry.title}**" if table["peers"][entry.peer]["ours"] else entry.title


def said(split: str) -> str:
    """The split as it is written in a sentence."""
    return split.replace("_", "-")


def names(table: dict[str, Any], split: str | None = None) -> list[str]:
    """The workloads, of one split or of both."""
    return [
        name
        for name, facts in table["workloads"].items()
        if split in (None, facts["split"])
    ]


def values(
    table: dict[str, Any], what: str, entry: Entry, label: str, over: list[str]
) -> np.ndarray:
    """[W, S] of ``"final"``, ``"time"`` or ``"recovery"``.

    A peer that raised has the metric before training and is never in time.
    """
    seeds = len(table["seeds"])
    rows = []
    for name in over:
        run = table["runs"][name][entry.peer]
        if run["error"] is not None:
            lost = table["workloads"][name]["start"] if what == "final" else np.inf
            rows.append(np.full(seeds, lost))
        else:
            at = rate_label(table, entry, label)
            rows.append(array(run[what][entry.kind][at]))
    return np.stack(rows)


def rate_label(table: dict[str, Any], entry: Entry, label: str) -> str:
    """The lane to read: a learning-rate-free peer has no rate to misjudge."""
    return "x1" if table["peers"][entry.peer]["free"] else label


def trials(
    table: dict[str, Any], what: str, entry: Entry, over: list[str]
) -> np.ndarray:
    """[W, S]: each study's best of the same five trials for everyone."""
    seeds, rows = len(table["seeds"]), []
    for name in over:
        run = table["runs"][name][entry.peer]
        if run["error"] is not None:
            lost = table["workloads"][name]["start"] if what == "final" else np.inf
            rows.append(np.full(seeds, lost))
            continue
        each = [array(run[what][entry.kind][label]) for label in protocol.TRIALS]
        rows.append(np.min(each, axis=0))
    return np.stack(rows)


def oracle(table: dict[str, Any], over: list[str]) -> np.ndarray:
    """[W, 1]: the tuned cosine's median final metric."""
    return np.array([[table["workloads"][name]["oracle"]] for name in over])


def start(table: dict[str, Any], over: list[str]) -> np.ndarray:
    """[W, 1]: the metric before training."""
    return np.array([[table["workloads"][name]["start"]] for name in over])


def final_ratio(
    table: dict[str, Any], entry: Entry, label: str, over: list[str]
) -> Interval:
    """Final metric over the tuned cosine's: geometric mean over workloads."""
    finals = values(table, "final", entry, label, over)
    return scoring.geometric_mean(finals / oracle(table, over))


def standings(table: dict[str, Any], split: str, ruleset: str) -> list[Standing]:
    """All entries, best first; ``ruleset`` is "self_tuning" or "external_tuning"."""
    rows, over = entries(table), names(table, split)
    if ruleset == "self_tuning":
        times = [values(table, "time", row, "default", over) for row in rows]
        finals = [values(table, "final", row, "default", over) for row in rows]
    else:
        times = [trials(table, "time", row, over) for row in rows]
        finals = [trials(table, "final", row, over) for row in rows]
    scores = scoring.score(np.stack(times))
    ranks = scoring.ranks(np.array([score.value for score in scores]))
    placed = [
        Standing(
            entry=row,
            rank=int(ranks[i]),
            score=scores[i],
            ratio=scoring.geometric_mean(finals[i] / oracle(table, over)),
            progress=scoring.progress(
                finals[i], start(table, over), oracle(table, over)
            ),
            solved=int(np.isfinite(np.median(times[i], axis=1)).sum()),
            diverged=count(table, "diverged", row, "default", over),
            raised=sum(
                table["runs"][name][row.peer]["error"] is not None for name in over
            ),
        )
        for i, row in enumerate(rows)
    ]
    return sorted(placed, key=lambda s: (s.rank, s.ratio.value))


def count(
    table: dict[str, Any], what: str, entry: Entry, label: str, over: list[str]
) -> int:
    """Runs over all seeds and workloads."""
    runs = [table["runs"][name][entry.peer] for name in over]
    at = rate_label(table, entry, label)
    return sum(run[what][entry.kind][at] for run in runs if run["error"] is None)


def misspecification(table: dict[str, Any], split: str) -> dict[Entry, list[Interval]]:
    """Final ratio at each of `protocol.MISSPECIFIED`."""
    over = names(table, split)
    return {
        row: [final_ratio(table, row, label, over) for label in protocol.MISSPECIFIED]
        for row in entries(table)
    }


def losses(
    table: dict[str, Any], ours: Entry, rival: Entry, label: str
) -> list[tuple[str, Interval]]:
    """Our final metric over a rival's on each workload, worst first.

    Seeds are paired: both trained from the same parameters on the same batches.
    """
    over = names(table)
    ratio = values(table, "final", ours, label, over) / values(
        table, "final", rival, label, over
    )
    rows = [
        (name, scoring.geometric_mean(ratio[i : i + 1])) for i, name in enumerate(over)
    ]
    return sorted(rows, key=lambda row: -row[1].value)


def survival(table: dict[str, Any], entry: Entry, label: str, over: list[str]) -> float:
    """Share of runs that end below half the metric they began with."""
    finals = values(table, "final", entry, label, over)
    return float((finals < 0.5 * start(table, over)).mean())


def disturbed(table: dict[str, Any]) -> list[str]:
    """Workloads with a shift or spikes."""
    return [
        name
        for name, facts in table["workloads"].items()
        if facts["disturbed_at"] is not None
    ]
