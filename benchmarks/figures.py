"""The report's two pictures: a wrong base rate, and trade by trade."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import protocol, scoring, standings  # noqa: E402
from benchmarks.standings import NUDGE, Entry, Row  # noqa: E402

OURS = ("#c1121f", "#f77f00", "#7b2cbf", "#d62aa0")
RIVALS = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
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
LINES = 8  # in the first picture


def draw(table: dict[str, Any], rows: Sequence[Row], folder: Path) -> dict[str, Path]:
    """Write every figure as SVG; name -> path."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    with plt.rc_context(STYLE):
        made = {"rates": _rates(table, rows), "trades": _trades(table, rows)}
        for name, figure in made.items():
            paths[name] = folder / f"{name}.svg"
            figure.savefig(paths[name], bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)
    return paths


def _rates(table: dict[str, Any], rows: Sequence[Row]) -> plt.Figure:
    """Final metric over the reference's along the base rate."""
    ours = [row for row in rows if table["peers"][row.entry.peer]["ours"]]
    plain = [row for row in rows if row.entry in (standings.COSINE, standings.AVERAGED)]
    rest = [row for row in rows if row not in ours and row not in plain]
    shown = ours + plain + rest[: LINES - len(ours) - len(plain)]
    figure, axes = plt.subplots(figsize=(7.2, 3.8))
    factors = list(protocol.FACTORS.values())
    colours = iter(OURS), iter(RIVALS)
    for row in shown:
        mine = row in ours
        values = np.array([row.by_label[label] for label in protocol.FACTORS])
        colour = next(colours[0] if mine else colours[1])
        axes.plot(
            factors,
            values[:, 0],
            marker="o",
            markersize=3,
            color=colour,
            linewidth=2.4 if row.entry == NUDGE else 1.2,
            linestyle="-" if mine else "--",
            label=f"{row.all.value:.2f}  {row.entry.title}",
        )
        if row.entry == NUDGE:
            axes.fill_between(
                factors, values[:, 1], values[:, 2], color=colour, alpha=0.15
            )
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="base learning rate over the tuned cosine's",
        ylabel="final metric over the best tuned schedule's",
    )
    _plain_ratios(axes.yaxis, axes.get_ylim())
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), title="mean over all rates"
    )
    return figure


def _trades(table: dict[str, Any], rows: Sequence[Row]) -> plt.Figure:
    """Nudge over three others in each trade, with intervals."""
    rivals = standings.rivals(table, rows)[:3]
    columns: list[tuple[str, dict[str, scoring.Interval]]] = [
        (
            f"over {rival.title}",
            scoring.by_trade(_near(table, rival)),
        )
        for rival in rivals
    ]
    trades = list(columns[0][1])
    figure, axes = plt.subplots(
        1,
        len(columns),
        figsize=(3.0 * len(columns) + 1.6, 0.27 * len(trades) + 0.9),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    colours = {"better": "#2b9348", "tie": "#6c757d", "worse": "#c1121f"}
    for one, (title, found) in zip(axes[0], columns, strict=True):
        for i, trade in enumerate(trades):
            value, low, high = found[trade]
            colour = colours[found[trade].verdict]
            one.plot([low, high], [i, i], color=colour, linewidth=1.5)
            one.plot([value], [i], marker="o", color=colour, markersize=4)
        one.axvline(1.0, color="black", linewidth=0.8)
        one.set(
            xscale="log", title=f"nudge {title}", xlabel="x0.3 to x3; left is better"
        )
        _plain_ratios(one.xaxis, one.get_xlim())
    axes[0][0].set_yticks(range(len(trades)), trades)
    axes[0][0].invert_yaxis()
    return figure


def _near(table: dict[str, Any], rival: Entry):
    return standings.against(table, NUDGE, rival, protocol.NEAR)


def _plain_ratios(axis: Any, limits: tuple[float, float]) -> None:
    """Ticks that are read as ratios."""
    ticks = [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10]
    inside = [tick for tick in ticks if limits[0] <= tick <= limits[1]]
    axis.set_ticks(inside, [f"{tick:g}" for tick in inside])
    axis.set_ticks([], minor=True)
