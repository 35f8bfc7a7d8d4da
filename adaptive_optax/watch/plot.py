"""The loop on one page: the loss, and below it every gain."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_optax.watch import event_marks, page, panels
from adaptive_optax.watch.columns import listed
from adaptive_optax.watch.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOSSES = ("loss", "validation_loss")
_ONE = (*_LOSSES, "learning_rate")  # one number a step
_BELOW = (
    ("reward", "reward", "linear"),
    ("learning_rate", "rate α", "log"),
    ("momentum", "momentum μ", "linear"),
    ("sigma", "dither σ", "linear"),
    ("frozen_fraction", "frozen (%)", "linear"),
)


def plot_history(
    history: History | Mapping[str, Any],
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
    dark: bool = False,
) -> "Figure":
    """Draw the loss with the learning rate, momentum, sigma and freezing beneath it.

    One x axis, the step, for all. The loss is drawn thin, its running mean bold, on a
    log scale where it stays positive, with a ``validation_loss`` where the history has
    one; a reward has a panel of its own. A dashed line marks a return to earlier
    parameters, a cross under the loss a batch that was not learnt from or a number that
    was not finite. The rate has
    a thin line beside it, what it would be without the controller, and a mark where it
    was cut at once. Numbers along the top count the lines of `explain`, each at its
    first step, where one `History` is drawn. The other gains have a panel if they move;
    the weights of a blend are drawn where there is one.

    Args:
      history: A `History`, its ``as_dict()``, or several of either by name, which are
        drawn over each other. So are several optimizers in one state (`partition`).
      labels: Names of the blended rules, in the blend's order; by default numbers.
      title: Of the page.
      path: Where to save the picture (the suffix picks the format); None does not.
      dark: Light lines on a dark page.

    Returns:
      The Matplotlib figure, which a notebook shows; no window is opened and `pyplot` is
      left alone.

    Raises:
      ImportError: If Matplotlib is not installed.
      TypeError: If ``history`` is something else.
      ValueError: If there is no step to draw, or none of these quantities, or a
        population of runs, or the labels do not fit the weights.

    Example:
      >>> from adaptive_optax.watch.history import History
      >>> history = History()
      >>> for loss in (2.0, 1.5, 1.2):
      ...     history.append({"loss": loss, "learning_rate": 1e-3})
      >>> figure = plot_history({"closed loop": history})
      >>> [axes.get_ylabel() for axes in figure.axes]
      ['loss', 'rate α']
    """
    with page.style(dark, "plot_history"):
        figure = _drawn(_named_runs(history), labels)
        if isinstance(history, History) and len(_parts(history.as_dict())) == 1:
            event_marks.number_events(figure.axes[0], history.events)
        return page.finish(figure, title, path)


def _drawn(runs: dict[str, dict[str, np.ndarray]], labels: Any) -> "Figure":
    """All panels of some runs."""
    below = [
        panel
        for panel in _BELOW
        if any(panels.shown(run, panel[0]) for run in runs.values())
    ]
    blends = {
        name: run["weights"]
        for name, run in runs.items()
        if np.ndim(run.get("weights", 0)) > 1
    }
    losses = [key for run in runs.values() for key in _LOSSES if panels.has(run, key)]
    if not (losses or below or blends):
        keys = dict.fromkeys(key for run in runs.values() for key in run)
        empty = keys.keys() & {*_ONE, "reward"}
        raise ValueError(
            "`plot_history` draws a loss and gains, got "
            f"{'no finite number in' if empty else 'only'} {listed(empty or keys)}; "
            "try history.append(opt_state), or history.append(loss=loss)."
        )
    n_rows = 1 + len(below) + bool(blends)
    figure = page.blank(8.0, 2.6 + 1.25 * (n_rows - 1))
    rows = figure.subplots(
        n_rows,
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[2.4] + [1.0] * (n_rows - 1),
    )[:, 0]
    for color, (name, run) in zip(page.colors(len(runs)), runs.items(), strict=True):
        panels.draw_loss(rows[0], run, name, color)
        for axes, (key, label, scale) in zip(rows[1:], below, strict=False):
            axes.set_ylabel(label)
            if key == "reward":
                panels.draw_noisy(axes, run, key, color)
            elif panels.has(run, key):
                percent = 100.0 if key == "frozen_fraction" else 1.0
                axes.plot(panels.steps_of(run), percent * run[key], color=color, lw=1.6)
                panels.set_scale(axes, key, scale, runs)
            if key == "learning_rate":
                panels.draw_base(
                    axes, run, color, first=run is next(iter(runs.values()))
                )
        for step in panels.rises(run, "restores"):
            for axes in rows:
                axes.axvline(step, color=color, lw=0.9, ls=(0, (4, 3)), alpha=0.7)
    if blends:
        panels.draw_weights(rows[-1], runs, blends, labels)
    panels.mark_events(rows[0], runs)
    rows[-1].set_xlabel("step")
    figure.align_ylabels(rows)
    return figure


def _named_runs(history: Any) -> dict[str, dict[str, np.ndarray]]:
    """Bring every accepted form to {name: {key: numbers}}."""
    named = history
    if isinstance(history, History):
        named = {"": history}
    elif not isinstance(history, Mapping):
        raise TypeError(
            f"`history` must be a History, got {type(history).__name__}; collect one "
            "with history = ao.History() and history.append(opt_state) at each step."
        )
    elif not any(isinstance(run, History | Mapping) for run in history.values()):
        named = {"": history}
    runs = {
        " ".join(filter(None, (name, part))): columns
        for name, run in named.items()
        for part, columns in _parts(
            run.as_dict() if isinstance(run, History) else dict(run)
        ).items()
    }
    if not runs or not any(np.size(x) for run in runs.values() for x in run.values()):
        raise ValueError(
            "`plot_history` got no steps to draw; collect some first with "
            "history.append(opt_state)."
        )
    if any(np.ndim(run.get(key, ())) > 1 for run in runs.values() for key in _ONE):
        raise ValueError(
            "`plot_history` got the snapshots of a population; take one member's: "
            "History.from_stacked(jax.tree.map(lambda x: x[:, 0], stacked))."
        )
    return runs


def _parts(run: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """A run by the optimizers in it: where there are several, keys begin with a place.

    What belongs to none of them (a validation loss) is drawn with each.
    """
    rate = "learning_rate"
    places = [key.removesuffix(rate) for key in run if key.endswith(f"/{rate}")]
    if not places:
        return {"": run}
    shared = {k: x for k, x in run.items() if not k.startswith(tuple(places))}
    return {
        place.rstrip("/"): shared
        | {k.removeprefix(place): x for k, x in run.items() if k.startswith(place)}
        for place in places
    }
