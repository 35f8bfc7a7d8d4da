"""Which layers rest when: a map of layers x steps."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from adaptive_optax.watch import page
from adaptive_optax.watch.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_freezing(
    masks: Any,
    *,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
    dark: bool = False,
) -> "Figure":
    """Draw which layers were frozen at which steps.

    One row a layer, in the order of the tree, from the inputs down to the head; filled
    where the layer is frozen. A leaf that is stacked over L layers has L rows.

    Args:
      masks: What `frozen_mask` told, one step after another: a sequence of its trees,
        or one tree of stacked masks, bool[steps] or bool[steps, L], as `jax.lax.scan`
        returns it; or a `History` whose column ``frozen_mask`` is bool[steps, layers].
      title: Of the page.
      path: Where to save the picture (the suffix picks the format); None does not.
      dark: Light colours on a dark page.

    Returns:
      The Matplotlib figure, which a notebook shows.

    Raises:
      ImportError: If Matplotlib is not installed.
      TypeError: If a mask is not boolean.
      ValueError: If there is no step to draw, or a history has no such column.

    Example:
      >>> masks = [{"body": False, "head": False}, {"body": True, "head": False}]
      >>> figure = plot_freezing(masks)
      >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
      ['body', 'head']

    References:
      `freeze_by_grad_norm`, which freezes them.
    """
    names, rows = _rows(masks)
    with page.style(dark, "plot_freezing"):
        from matplotlib.colors import ListedColormap
        from matplotlib.patches import Patch

        figure = page.blank(8.0, 1.1 + 0.22 * min(max(len(names), 3), 40))
        axes = figure.subplots()
        live, frozen = page.setting("grid.color"), page.colors(1)[0]
        axes.grid(False)
        axes.imshow(
            rows,
            aspect="auto",
            interpolation="none",
            cmap=ListedColormap([live, frozen]),
            vmin=0,
            vmax=1,
            extent=(0.5, rows.shape[1] + 0.5, len(names) - 0.5, -0.5),
        )
        every = -(-len(names) // 40)
        axes.set_yticks(range(0, len(names), every), names[::every])
        axes.set_xlabel("step")
        share = 100 * rows.mean()
        axes.legend(
            handles=[
                Patch(color=frozen, label=f"frozen ({share:.0f} % of all)"),
                Patch(color=live, label="learning"),
            ],
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=2,
        )
        return page.finish(figure, title, path)


def _rows(masks: Any) -> tuple[list[str], np.ndarray]:
    """Names, and bool[layers, steps]."""
    if isinstance(masks, History):
        masks = _column(masks)
    elif isinstance(masks, Sequence):
        steps = [jax.tree.map(np.asarray, mask) for mask in jax.device_get(list(masks))]
        masks = jax.tree.map(lambda *x: np.stack(x), *steps) if steps else {}
    leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(masks))[0]
    names, rows = [], []
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        stacked = np.atleast_1d(np.asarray(leaf))
        if stacked.dtype != bool:
            raise TypeError(
                f"`masks` must be boolean, got {stacked.dtype} at {name!r}; try "
                "masks.append(frozen_mask(opt_state, params))."
            )
        layers = math.prod(stacked.shape[1:])
        for i, row in enumerate(stacked.reshape(len(stacked), layers).T):
            names.append(f"{name}/{i}" if layers > 1 else name)
            rows.append(row)
    if not rows or not len(rows[0]):
        raise ValueError(
            "`plot_freezing` got no steps to draw; collect some first with "
            "masks.append(frozen_mask(opt_state, params))."
        )
    return names, np.stack(rows)


def _column(history: History) -> Mapping[str, np.ndarray]:
    columns = history.as_dict()
    if "frozen_mask" not in columns:
        raise ValueError(
            "the history has no `frozen_mask`; collect it with history.append(state, "
            "frozen_mask=jnp.stack(jax.tree.leaves(frozen_mask(state, params))))."
        )
    return {"layer": columns["frozen_mask"] != 0}  # a file holds 0 and 1
