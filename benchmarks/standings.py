"""What a summary says: entries, their ratios to the references, who beats whom.

An entry is a peer with one way to evaluate it: the parameters that it names itself. For
peers that are not ours there is a second entry with the judge's polynomial average of
the parameters, so that what averaging earns is not credited to a controller.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import protocol, scoring
from benchmarks.scoring import Interval, Place
from benchmarks.summary import array

LABELS = tuple(protocol.FACTORS)


class Entry(NamedTuple):
    """A row of every table."""

    title: str
    peer: str
    kind: str  # "own", "average" or "last"


NUDGE = Entry("nudge", "nudge", "own")
COSINE = Entry("cosine", "cosine", "own")
AVERAGED = Entry("constant + average", "constant", "average")
Finals = Mapping[Place, np.ndarray]


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


def places(table: dict[str, Any]) -> dict[str, Place]:
    """Problem -> where it weighs."""
    return {
        name: Place(facts["trade"], facts["family"], name)
        for name, facts in table["problems"].items()
    }


def finals(table: dict[str, Any], entry: Entry, label: str) -> Finals:
    """Place -> [instances, seeds]; a peer that raised has the metric of the start.

    A learning-rate-free peer has no rate to misjudge: it is the same at every label.
    """
    label = "x1" if table["peers"][entry.peer]["free"] else label
    found = {}
    for name, place in places(table).items():
        run = table["runs"][name][entry.peer]
        if run["error"] is None:
            found[place] = array(run["final"][entry.kind][label])
        else:
            found[place] = array(table["problems"][name]["start"])
    return found


def cosine(table: dict[str, Any]) -> Finals:
    """The tuned cosine, each seed beside its own."""
    return finals(table, Entry("cosine", "cosine", "last"), "x1")


def best_tuned(table: dict[str, Any]) -> Finals:
    """The best of the three tuned schedules, chosen on seeds that are not scored."""
    of_peer = {
        peer: finals(table, Entry(peer, peer, kind), _tuned(peer))
        for peer, kind in protocol.REFERENCES.items()
    }
    return {
        place: np.stack(
            [
                of_peer[peer][place][i]
                for i, peer in enumerate(table["problems"][name]["best"])
            ]
        )
        for name, place in places(table).items()
    }


def _tuned(peer: str) -> str:
    return "x1" if peer == "cosine" else "tuned"


def ratio(
    table: dict[str, Any],
    entry: Entry,
    labels: Sequence[str],
    reference: Callable[[dict[str, Any]], Finals] = best_tuned,
) -> dict[Place, np.ndarray]:
    """Place -> [instances, seeds]: log of final over reference, mean over labels."""
    over = reference(table)
    return scoring.pooled(
        [scoring.log_ratios(finals(table, entry, label), over) for label in labels]
    )


def against(
    table: dict[str, Any], ours: Entry, rival: Entry, labels: Sequence[str]
) -> dict[Place, np.ndarray]:
    """Place -> [instances, seeds]: log of ours over a rival's on the same runs."""
    return scoring.pooled(
        [
            scoring.log_ratios(finals(table, ours, label), finals(table, rival, label))
            for label in labels
        ]
    )


class Row(NamedTuple):
    """An entry's line of the first table."""

    entry: Entry
    by_label: dict[str, Interval]
    near: Interval  # x0.3, x1, x3
    all: Interval  # the seven rates
    default: Interval
    over_cosine: Interval  # at x1
    diverged: int  # runs, of all rates


def rows(table: dict[str, Any]) -> list[Row]:
    """All entries, the best over all rates first."""
    over = functools.cache(lambda: best_tuned(table))
    found = []
    for entry in entries(table):
        default = "x1" if table["peers"][entry.peer]["free"] else "default"

        def mean(labels: Sequence[str], entry: Entry = entry) -> Interval:
            return scoring.mean(ratio(table, entry, labels, lambda _: over()))

        found.append(
            Row(
                entry=entry,
                by_label={label: mean([label]) for label in LABELS},
                near=mean(protocol.NEAR),
                all=mean(LABELS),
                default=mean([default]),
                over_cosine=scoring.mean(ratio(table, entry, ["x1"], cosine)),
                diverged=diverged(table, entry),
            )
        )
    return sorted(found, key=lambda row: row.all.value)


def diverged(table: dict[str, Any], entry: Entry) -> int:
    """Runs over all rates, draws and seeds that ended above their start."""
    free = table["peers"][entry.peer]["free"]
    labels = ("x1",) * len(LABELS) if free else LABELS
    return sum(
        run["diverged"][entry.kind][label]
        for name in table["problems"]
        for run in [table["runs"][name][entry.peer]]
        if run["error"] is None
        for label in labels
    )


def rivals(table: dict[str, Any], found: Sequence[Row]) -> list[Entry]:
    """Whom ours is set beside: the plain choices, and the best of the others."""
    mine = [row for row in found if not table["peers"][row.entry.peer]["ours"]]
    best = [row.entry for row in sorted(mine, key=lambda row: row.all.value)[:3]]
    near = [row.entry for row in sorted(mine, key=lambda row: row.near.value)[:2]]
    plain = [e for e in (COSINE, AVERAGED) if e.peer in table["peers"]]
    return list(dict.fromkeys([*plain, *best, *near]))
