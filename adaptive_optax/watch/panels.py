"""What `plot_history` draws: one panel a quantity, on one axis of steps."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_optax.watch import page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SKIPS = (
    "skipped",
    *(f"nonfinite_{what}" for what in ("values", "rewards", "gradients", "steps")),
)


def steps_of(run: dict[str, np.ndarray]) -> np.ndarray:
    """The x axis: the optimizer's own count, else the position."""
    return np.asarray(run.get("steps", 1 + np.arange(len(next(iter(run.values()))))))


def has(run: dict[str, np.ndarray], key: str) -> bool:
    """Whether a run holds a quantity."""
    return key in run and bool(np.isfinite(run[key]).any())


def shown(run: dict[str, np.ndarray], key: str) -> bool:
    """Whether a quantity has a panel: the rate, and any other that moves."""
    if not has(run, key):
        return False
    return key == "learning_rate" or np.nanmin(run[key]) < np.nanmax(run[key])


def rises(run: dict[str, np.ndarray], *keys: str) -> np.ndarray:
    """The steps at which one of the counters went up."""
    present = [np.nan_to_num(run[key]) for key in keys if key in run]
    if not present:
        return np.array([])
    total = np.sum(present, axis=0)
    return steps_of(run)[np.diff(total, prepend=0) > 0]


def _smooth(values: np.ndarray) -> np.ndarray:
    """Debiased running mean over about 2 % of the run, geometric on a log axis."""
    if np.nanmin(values) > 0:
        return np.exp(_smooth_linear(np.log(values)))
    return _smooth_linear(values)


def _smooth_linear(values: np.ndarray) -> np.ndarray:
    decay = 1.0 - 1.0 / max(1.0, 0.02 * len(values))
    total, weight, out = 0.0, 0.0, np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if math.isfinite(value):
            total = decay * total + (1 - decay) * value
            weight = decay * weight + (1 - decay)
        out[i] = total / weight if weight else np.nan
    return out


def draw_noisy(axes: "Axes", run: dict, key: str, color: str, name: str = "") -> None:
    """A loss or a reward, thin where there are many steps, and its running mean."""
    if not has(run, key):
        return
    steps, column = steps_of(run), np.asarray(run[key], float)
    if len(column) > 50:
        axes.plot(steps, column, color=color, lw=0.6, alpha=0.3)
        column = _smooth(column)
    axes.plot(steps, column, color=color, lw=1.8, label=name or None)


def draw_loss(axes: "Axes", run: dict, name: str, color: str) -> None:
    """The loss, and the validation loss where that is known."""
    axes.set_ylabel("loss")
    draw_noisy(axes, run, "loss", color, name)
    if has(run, "validation_loss"):
        known = np.isfinite(run["validation_loss"])
        label = f"{name} validation".strip()
        at = steps_of(run)[known], run["validation_loss"][known]
        axes.plot(
            *at, "o", color=color, ms=4, mec=page.setting("axes.facecolor"), label=label
        )


def draw_base(axes: "Axes", run: dict, color: str, first: bool) -> None:
    """What the rate would be without the controller, and where it was cut at once."""
    if has(run, "learning_rate") and has(run, "lr_scale"):
        base = run["learning_rate"] / run["lr_scale"]
        steps, scale = steps_of(run), run["lr_scale"]
        axes.plot(
            steps,
            base,
            color=color,
            lw=0.9,
            ls=":",
            label="without the loop" if first else None,
        )
        cuts = 1 + np.flatnonzero(scale[1:] < scale[:-1] / 1.3)
        if len(cuts):
            at = steps[cuts], run["learning_rate"][cuts]
            axes.plot(
                *at, "v", color=color, ms=6, label="cut at once" if first else None
            )
        _legend(axes)


def set_scale(axes: "Axes", key: str, scale: str, runs: dict) -> None:
    """A log axis where every value allows one, and room around a flat line."""
    values = np.concatenate([np.ravel(r[key]) for r in runs.values() if key in r])
    if key == "learning_rate":
        bases = [r[key] / r["lr_scale"] for r in runs.values() if "lr_scale" in r]
        values = np.concatenate([values, *bases])
    values = values[np.isfinite(values)]
    if scale == "log" and values.min() > 0:
        if values.max() < 2 * values.min():
            axes.set_ylim(values.min() / 2, values.max() * 2)
        _log_axis(axes, values.max() / values.min(), most=4)
    elif key == "frozen_fraction":
        axes.set_ylim(-4, 104)
    elif values.max() == values.min():
        room = abs(values[0]) / 10
        axes.set_ylim(
            *((values[0] - room, values[0] + room) if room else (-1e-4, 1e-3))
        )


def _log_axis(axes: "Axes", span: float, most: int) -> None:
    """Few plain numbers: whole decades, with 2 and 5 or 3 between where there is room.

    Args:
      axes: Whose y axis it is.
      span: Highest over lowest value.
      most: About as many ticks.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    decades = math.log10(max(span, 1.0))
    subs = (1.0, 2.0, 5.0) if 3 * decades < most else (1.0, 3.0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(
        LogLocator(subs=subs if 2 * decades < most else (1.0,), numticks=most + 1)
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}".replace("e-0", "e-"))


def draw_weights(axes: "Axes", runs: dict, blends: dict, labels: Any) -> None:
    """The weights of a blend, one line a rule."""
    n_rules = max(weights.shape[-1] for weights in blends.values())
    labels = [f"rule {i + 1}" for i in range(n_rules)] if labels is None else labels
    if len(labels) != n_rules:
        raise ValueError(
            f"`labels` must name the {n_rules} blended rules, got {list(labels)!r}; "
            f"try labels={[f'rule {i + 1}' for i in range(n_rules)]!r}."
        )
    for n, (name, weights) in enumerate(blends.items()):
        for i, color in zip(
            range(weights.shape[-1]), page.colors(n_rules), strict=False
        ):
            axes.plot(
                steps_of(runs[name]),
                weights[:, i],
                color=color,
                ls=("-", "--", ":")[n % 3],
                lw=1.6,
                label=labels[i] if n == 0 else None,
            )
    axes.set_ylabel("weight")
    axes.set_ylim(-0.04, 1.04)
    _legend(axes)


def mark_events(axes: "Axes", runs: dict) -> None:
    """The loss's scale, its crosses, and one legend that explains every mark."""
    keys = ("loss", "validation_loss")
    losses = [r[key] for r in runs.values() for key in keys if has(r, key)]
    if losses and all(np.nanmin(loss) > 0 for loss in losses):
        highest, lowest = (f([f(x) for x in losses]) for f in (np.nanmax, np.nanmin))
        _log_axis(axes, highest / lowest, most=6)
    skipped = restored = False
    for color, run in zip(page.colors(len(runs)), runs.values(), strict=True):
        steps = rises(run, *_SKIPS)
        if len(steps):
            axes.plot(
                steps,
                np.full(len(steps), 0.03),
                "x",
                ms=6,
                color=color,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
        skipped |= len(steps) > 0
        restored |= len(rises(run, "restores")) > 0
    if skipped:
        axes.plot(
            [],
            [],
            "x",
            color=page.setting("text.color"),
            ms=6,
            label="skipped or not finite",
        )
    if restored:
        axes.plot(
            [],
            [],
            color=page.setting("text.color"),
            lw=0.9,
            ls=(0, (4, 3)),
            label="restored",
        )
    _legend(axes)


def _legend(axes: "Axes") -> None:
    handles, names = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            names,
            frameon=False,
            fontsize=9,
            ncols=min(len(handles), 5),
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            borderaxespad=0.2,
        )
