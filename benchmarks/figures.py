"""The report's pictures: profiles, misspecification, control traces."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import protocol, scoring, standings  # noqa: E402
from benchmarks.standings import Entry  # noqa: E402

OURS = ("#c1121f", "#f77f00", "#7b2cbf", "#d62aa0")
RIVALS = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 9,
    "legend.frameon": False,
    "svg.hashsalt": "adaptive_optax",  # the same figure gives the same file
    "svg.fonttype": "none",
}
SHOWN = 10  # lines in a figure: ours and the best of the others


def draw(table: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Write every figure as SVG; name -> path."""
    split = "held_out" if standings.names(table, "held_out") else "development"
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    with plt.rc_context(STYLE):
        for ruleset in ("self_tuning", "external_tuning"):
            made[f"profile_{ruleset}"] = _profile(table, split, ruleset)
        made["misspecification"] = _misspecification(table, split)
        made["traces"] = _traces(table)
        paths = {}
        for name, figure in made.items():
            paths[name] = folder / f"{name}.svg"
            figure.savefig(paths[name], bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)
    return paths


def _looks(table: dict, rows: list[Entry]) -> dict[Entry, dict[str, Any]]:
    """Ours thick and warm, the others thin; dashed where averaged."""
    ours, rivals, looks = iter(OURS), iter(RIVALS * 3), {}
    colour_of: dict[str, Any] = {}
    for row in rows:
        mine = table["peers"][row.peer]["ours"]
        if row.peer not in colour_of:
            colour_of[row.peer] = next(ours if mine else rivals, "black")
        looks[row] = {
            "color": colour_of[row.peer],
            "linewidth": 2.4 if mine else 1.2,
            "linestyle": "--" if row.kind == "average" else "-",
            "zorder": 3 if mine else 2,
        }
    return looks


def _profile(table: dict, split: str, ruleset: str) -> plt.Figure:
    placed = standings.standings(table, split, ruleset)
    over, all_rows = standings.names(table, split), standings.entries(table)
    read = standings.values if ruleset == "self_tuning" else None
    times = np.stack(
        [
            read(table, "time", row, "default", over)
            if read
            else standings.trials(table, "time", row, over)
            for row in all_rows
        ]
    )
    taus = np.geomspace(1.0, scoring.R_MAX, 200)
    lines = dict(
        zip(
            all_rows,
            scoring.profile(scoring.ratios_to_best(np.median(times, axis=-1)), taus),
            strict=True,
        )
    )
    shown = [s for s in placed if table["peers"][s.entry.peer]["ours"]]
    shown += [s for s in placed if s not in shown][: SHOWN - len(shown)]
    shown.sort(key=lambda s: s.rank)
    looks = _looks(table, [s.entry for s in shown])
    figure, axes = plt.subplots(figsize=(7.2, 4.0))
    for standing in shown:
        label = f"{standing.score.value:.2f}  {standing.entry.title}"
        axes.step(
            taus,
            lines[standing.entry],
            where="post",
            label=label,
            **looks[standing.entry],
        )
    axes.set(
        xscale="log",
        xlabel="τ: within this multiple of the fastest peer's steps to the target",
        ylabel="share of workloads solved",
        ylim=(-0.02, 1.02),
        xlim=(1, scoring.R_MAX),
        title=f"{ruleset.replace('_', ' ')}, {split.replace('_', '-')} workloads",
    )
    axes.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"], minor=False)
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="score")
    return figure


def _misspecification(table: dict, split: str) -> plt.Figure:
    curves = standings.misspecification(table, split)
    rows = list(curves)
    ours = [row for row in rows if table["peers"][row.peer]["ours"]]
    others = sorted(
        (row for row in rows if row not in ours),
        key=lambda row: np.mean([np.log(i.value) for i in curves[row]]),
    )
    shown = ours + others[: SHOWN - len(ours)]
    looks = _looks(table, shown)
    figure, axes = plt.subplots(figsize=(7.2, 4.0))
    factors = [protocol.FACTORS[label] for label in protocol.MISSPECIFIED]
    for row in shown:
        middle, low, high = np.array(curves[row]).T
        axes.plot(
            factors, middle, marker="o", markersize=3, label=row.title, **looks[row]
        )
        if row in ours:
            axes.fill_between(
                factors, low, high, color=looks[row]["color"], alpha=0.08, linewidth=0
            )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="base learning rate over the tuned cosine's best",
        ylabel="final metric over the tuned cosine's",
        title=f"a wrong base rate, {split.replace('_', '-')} workloads",
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _traces(table: dict) -> plt.Figure:
    """The learning rate over the base rate on every workload, from three starts."""
    traced = {name: rows for name, rows in table["traces"].items() if rows}
    columns = 4
    rows = -(-max(len(traced), 1) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(11, 2.1 * rows), squeeze=False, layout="constrained"
    )
    colours = dict(zip(("x0.01", "x1", "x100"), ("#0077b6", "#2b9348", "#c1121f"),
                       strict=True))  # fmt: skip
    for axes in grid.flat[len(traced) :]:
        axes.set_axis_off()
    for axes, (name, runs) in zip(grid.flat, traced.items(), strict=False):
        base = table["workloads"][name]["base_rate"]
        for label, trace in runs.items():
            rate = np.array(
                [np.nan if v is None else v for v in trace["learning_rate"]], float
            )
            axes.plot(trace["step"], rate / base, color=colours[label], label=label)
        at = table["workloads"][name]["disturbed_at"]
        if at is not None:
            axes.axvline(at, color="black", linestyle=":", linewidth=1)
        axes.set(yscale="log", ylim=(1e-3, 1e3))
        axes.set_title(name, fontsize=9)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3)
    figure.suptitle("nudge: learning rate over the base rate, first seed", x=0.3)
    figure.supxlabel("step")
    return figure
