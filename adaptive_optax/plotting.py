"""The loop on one page: the loss, and beneath it every gain that answered it."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_optax.telemetry import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by everyone, in print too.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_INK, _GRID = "#333333", "#E6E6E6"
_GAINS = (
    ("learning_rate", "rate α", "log"),
    ("momentum", "momentum μ", "linear"),
    ("sigma", "dither σ", "linear"),
    ("frozen_fraction", "frozen (%)", "linear"),
)
_SKIPS = tuple(
    f"nonfinite_{what}" for what in ("values", "rewards", "gradients", "steps")
)


def plot_history(
    history: History | Mapping[str, Any],
    *,
    labels: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw the loss with the learning rate, momentum, sigma and freezing beneath it.

    One x axis, the step, for all. The loss is drawn thin, its running mean bold, on a
    log scale where it stays positive. A dashed line marks a restore of the last good
    parameters, a cross under the loss a step that was not finite, or whose feedback was
    not. A panel appears where a history holds its quantity; the weights of a blend are
    drawn where there is one.

    Args:
      history: A `History`, its ``as_dict()``, or several of either by name, which are
        drawn over each other.
      labels: Names of the blended rules, in the blend's order; by default numbers.
      path: Where to save the picture (the suffix picks the format); None does not.

    Returns:
      The Matplotlib figure; no window is opened and `pyplot` is left alone.

    Raises:
      ImportError: If Matplotlib is not installed.
      ValueError: If there is no step to draw, or the labels do not fit the weights.

    Example:
      >>> from adaptive_optax.telemetry import History
      >>> history = History()
      >>> for loss in (2.0, 1.5, 1.2):
      ...     history.append({"loss": loss, "learning_rate": 1e-3})
      >>> figure = plot_history({"closed loop": history})
      >>> [axes.get_ylabel() for axes in figure.axes]
      ['loss', 'rate α']
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "`plot_history` needs Matplotlib; "
            'install it with pip install "adaptive_optax[plot]".'
        ) from error

    runs = _named_runs(history)
    panels = [
        gain for gain in _GAINS if any(_has(run, gain[0]) for run in runs.values())
    ]
    blends = {name: run["weights"] for name, run in runs.items() if "weights" in run}
    n_rows = 1 + len(panels) + bool(blends)

    figure = Figure(figsize=(8.0, 2.6 + 1.25 * (n_rows - 1)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(
        n_rows,
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[2.4] + [1.0] * (n_rows - 1),
    )[:, 0]
    for axes in rows:
        _dress(axes)

    for color, (name, run) in zip(_cycle(len(runs)), runs.items(), strict=True):
        _draw_loss(rows[0], run, name, color)
        for axes, (key, label, scale) in zip(rows[1:], panels, strict=False):
            axes.set_ylabel(label)
            if _has(run, key):
                percent = 100.0 if key == "frozen_fraction" else 1.0
                axes.plot(_steps(run), percent * run[key], color=color, lw=1.6)
                _scale(axes, key, scale, runs)
        for step in _rises(run, "restores"):
            for axes in rows:
                axes.axvline(step, color=color, lw=0.9, ls=(0, (4, 3)), alpha=0.7)
    if blends:
        _draw_weights(rows[-1], runs, blends, labels)
    _mark_events(rows[0], runs)
    rows[-1].set_xlabel("step")
    figure.align_ylabels(rows)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _named_runs(history: Any) -> dict[str, dict[str, np.ndarray]]:
    """Bring every accepted form to {name: {key: numbers}}."""
    named = history
    if isinstance(history, History):
        named = {"": history}
    elif isinstance(history, Mapping) and not any(
        isinstance(run, History | Mapping) for run in history.values()
    ):
        named = {"": history}
    runs = {
        name: run.as_dict() if isinstance(run, History) else dict(run)
        for name, run in named.items()
    }
    if not runs or not any(np.size(x) for run in runs.values() for x in run.values()):
        raise ValueError(
            "`plot_history` got no steps to draw; collect some first with "
            "history.append(opt_state)."
        )
    return runs


def _steps(run: dict[str, np.ndarray]) -> np.ndarray:
    """The x axis: the optimizer's own count, else the position."""
    return np.asarray(run.get("steps", 1 + np.arange(len(next(iter(run.values()))))))


def _has(run: dict[str, np.ndarray], key: str) -> bool:
    return key in run and bool(np.isfinite(run[key]).any())


def _cycle(n: int) -> list[str]:
    return [_COLORS[i % len(_COLORS)] for i in range(n)]


def _rises(run: dict[str, np.ndarray], *keys: str) -> np.ndarray:
    """The steps at which one of the counters went up."""
    present = [np.nan_to_num(run[key]) for key in keys if key in run]
    if not present:
        return np.array([])
    total = np.sum(present, axis=0)
    return _steps(run)[np.diff(total, prepend=0) > 0]


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


def _dress(axes: "Axes") -> None:
    axes.grid(color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.margins(x=0.01)


def _draw_loss(axes: "Axes", run: dict, name: str, color: str) -> None:
    axes.set_ylabel("loss")
    if not _has(run, "loss"):
        return
    steps, loss = _steps(run), np.asarray(run["loss"], float)
    if len(loss) > 50:
        axes.plot(steps, loss, color=color, lw=0.6, alpha=0.3)
        loss = _smooth(loss)
    axes.plot(steps, loss, color=color, lw=1.8, label=name or None)


def _scale(axes: "Axes", key: str, scale: str, runs: dict) -> None:
    """A log axis where every value allows one, and room around a flat line."""
    values = np.concatenate([np.ravel(r[key]) for r in runs.values() if key in r])
    values = values[np.isfinite(values)]
    if scale == "log" and values.min() > 0:
        _log_axis(axes)
        if values.max() < 2 * values.min():
            axes.set_ylim(values.min() / 2, values.max() * 2)
    elif key == "frozen_fraction":
        axes.set_ylim(-4, 104)
    elif values.max() == values.min():
        room = abs(values[0]) / 10
        axes.set_ylim(
            *((values[0] - room, values[0] + room) if room else (-1e-4, 1e-3))
        )


def _log_axis(axes: "Axes") -> None:
    """Plain numbers at 1, 2 and 5 in place of powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_weights(axes: "Axes", runs: dict, blends: dict, labels: Any) -> None:
    n_rules = max(weights.shape[-1] for weights in blends.values())
    labels = [f"rule {i + 1}" for i in range(n_rules)] if labels is None else labels
    if len(labels) != n_rules:
        raise ValueError(
            f"`labels` must name the {n_rules} blended rules, got {list(labels)!r}; "
            f"try labels={[f'rule {i + 1}' for i in range(n_rules)]!r}."
        )
    for n, (name, weights) in enumerate(blends.items()):
        for i, color in zip(range(weights.shape[-1]), _cycle(n_rules), strict=False):
            axes.plot(
                _steps(runs[name]),
                weights[:, i],
                color=color,
                ls=("-", "--", ":")[n % 3],
                lw=1.6,
                label=labels[i] if n == 0 else None,
            )
    axes.set_ylabel("weight")
    axes.set_ylim(-0.04, 1.04)
    _legend(axes)


def _mark_events(axes: "Axes", runs: dict) -> None:
    """The loss's scale, its crosses, and one legend that explains every mark."""
    losses = [r["loss"] for r in runs.values() if _has(r, "loss")]
    if losses and all(np.nanmin(loss) > 0 for loss in losses):
        _log_axis(axes)
    skipped = restored = False
    for color, run in zip(_cycle(len(runs)), runs.values(), strict=True):
        steps = _rises(run, *_SKIPS)
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
        restored |= len(_rises(run, "restores")) > 0
    if skipped:
        axes.plot([], [], "x", color=_INK, ms=6, label="not finite")
    if restored:
        axes.plot([], [], color=_INK, lw=0.9, ls=(0, (4, 3)), label="restored")
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
