"""The figures that the default law should reach on held-out workloads, met or not."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import protocol, scoring, standings
from benchmarks.standings import Entry

NUDGE = Entry("nudge", "nudge", "own")
SEARCH = Entry("search", "search", "own")
AVERAGED_CONSTANT = Entry("constant + average", "constant", "average")
CONSTANT = Entry("constant", "constant", "own")


class Aim(NamedTuple):
    """A figure, what it should be, and what it is."""

    figure: str
    wanted: str
    measured: str
    met: bool


def aims(table: dict[str, Any], split: str = "held_out") -> list[Aim]:
    """Every aim whose peers are in the summary."""
    over = standings.names(table, split)
    makers: list[tuple[set[str], Callable[..., list[Aim]]]] = [
        ({"nudge"}, _at_base),
        ({"nudge", "constant"}, _harm),
        ({"nudge"}, _near),
        ({"search"}, _far),
        ({"nudge_horizon", "warmup_stable_decay"}, _known_horizon),
        ({"nudge", "nadamw"}, _score),
        ({"nudge", "search"}, _survival),
        ({"nudge", "constant"}, _recovery),
    ]
    present = set(table["peers"])
    return [
        aim for need, make in makers if need <= present for aim in make(table, over)
    ]


def _ratio(table: dict, entry: Entry, label: str, over: list[str]) -> scoring.Interval:
    return standings.final_ratio(table, entry, label, over)


def _at_base(table: dict, over: list[str]) -> list[Aim]:
    ratio = _ratio(table, NUDGE, "x1", over)
    figure = "nudge, base x1: final metric over the tuned cosine's"
    return [Aim(figure, "≤ 0.97", f"{ratio}", ratio.value <= 0.97)]


def _harm(table: dict, over: list[str]) -> list[Aim]:
    rivals = {
        name: interval
        for name, interval in standings.losses(table, NUDGE, AVERAGED_CONSTANT, "x1")
        if name in over
    }
    ours, theirs = (
        standings.values(table, "final", entry, "x1", over)
        for entry in (NUDGE, AVERAGED_CONSTANT)
    )
    mean = scoring.geometric_mean(ours / theirs)
    worst = max(rivals, key=lambda name: rivals[name].value)
    value = rivals[worst].value
    return [
        Aim("nudge, x1: over constant + average", "≤ 1.00", f"{mean}", mean.value <= 1),
        Aim(
            "the same, worst workload",
            "≤ 1.05",
            f"{value:.2f} ({worst})",
            value <= 1.05,
        ),
    ]


def _near(table: dict, over: list[str]) -> list[Aim]:
    ratios = {label: _ratio(table, NUDGE, label, over) for label in ("x0.1", "x10")}
    return [
        Aim(f"nudge, base {label}: over the tuned cosine at x1", "≤ 1.10", f"{r}",
            r.value <= 1.10)
        for label, r in ratios.items()
    ]  # fmt: skip


def _far(table: dict, over: list[str]) -> list[Aim]:
    rows, worst = [], (0.0, "")
    for label in protocol.MISSPECIFIED:
        ratio = _ratio(table, SEARCH, label, over)
        rows.append(
            Aim(f"search, base {label}", "≤ 1.05", f"{ratio}", ratio.value <= 1.05)
        )
        finals = standings.values(table, "final", SEARCH, label, over)
        each = np.median(finals, axis=1) / standings.oracle(table, over)[:, 0]
        top = int(each.argmax())
        worst = max(worst, (float(each[top]), f"{over[top]} at {label}"))
    figure = "search, the worst workload at any of these"
    rows.append(Aim(figure, "≤ 1.3", f"{worst[0]:.2f} ({worst[1]})", worst[0] <= 1.3))
    return rows


def _known_horizon(table: dict, over: list[str]) -> list[Aim]:
    ours = Entry("", "nudge_horizon", "last")
    rival = Entry("", "warmup_stable_decay", "own")
    ratio = scoring.geometric_mean(
        standings.values(table, "final", ours, "x1", over)
        / standings.values(table, "final", rival, "tuned", over)
    )
    figure = "last iterate with total_steps, over tuned warm-up-stable-decay"
    return [Aim(figure, "≤ 1.02", f"{ratio}", ratio.value <= 1.02)]


def _score(table: dict, over: list[str]) -> list[Aim]:
    placed = {
        standing.entry.title: standing.score
        for standing in standings.standings(table, "held_out", "self_tuning")
    }
    ours = placed["nudge"]
    rivals = {
        title: score
        for title, score in placed.items()
        if not table["peers"][title.removesuffix(" + average")]["ours"]
    }
    best = max(rivals, key=lambda title: rivals[title].value)
    margin = ours.value - placed["nadamw"].value
    return [
        Aim("nudge, self-tuning score", f"above {best}'s {rivals[best].value:.2f}",
            f"{ours}", ours.value > rivals[best].value),
        Aim("the same, over NAdamW's", "≥ +0.05", f"{margin:+.2f}", margin >= 0.05),
    ]  # fmt: skip


def _survival(table: dict, over: list[str]) -> list[Aim]:
    rows = []
    for entry in (NUDGE, SEARCH):
        for label in protocol.SURVIVAL:
            share = standings.survival(table, entry, label, over)
            rows.append(
                Aim(f"{entry.title}, base {label}: runs below half the first metric",
                    "≥ 95 %", f"{share:.0%}", share >= 0.95)
            )  # fmt: skip
    return rows


def _recovery(table: dict, over: list[str]) -> list[Aim]:
    rows = []
    for name in set(standings.disturbed(table)) & set(over):
        ours, theirs = (
            float(np.median(standings.values(table, "recovery", entry, label, [name])))
            for entry, label in ((NUDGE, "x1"), (CONSTANT, "tuned"))
        )
        rows.append(
            Aim(f"{name}: nudge's steps to recover", f"≤ {theirs:g} (best constant)",
                f"{ours:g}" if np.isfinite(ours) else "never", ours <= theirs)
        )  # fmt: skip
    return rows
