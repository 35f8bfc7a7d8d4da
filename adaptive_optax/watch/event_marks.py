"""The events of a run, as marks in its picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptive_optax.watch import page, words
from adaptive_optax.watch.event_log import Event

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def number_events(axes: "Axes", events: Sequence[Event]) -> None:
    """Number the lines of `explain` at their steps, along the top of the loss."""
    heads = _heads(events)
    left, right = axes.get_xlim()
    near: list[list[int]] = []  # of which the numbers would be over each other
    for i, event in enumerate(heads):
        if not left <= event.step <= right:  # the history does not hold its step
            continue
        close = near and event.step - heads[near[-1][0]].step < 0.03 * (right - left)
        near = [*near[:-1], [*near[-1], i]] if close else [*near, [i]]
    for group in near:
        first, last = 1 + group[0], 1 + group[-1]
        axes.annotate(
            f"{first}" if first == last else f"{first}-{last}",
            (heads[group[0]].step, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, -2),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8,
            bbox={
                "boxstyle": "round,pad=0.2",
                "fc": page.setting("axes.facecolor"),
                "ec": page.setting("text.color"),
                "lw": 0.6,
            },
        )


def _heads(events: Sequence[Event]) -> list[Event]:
    """The events that begin a line of `explain`: a cause is told with its answer."""
    heads: list[Event] = []
    for event in words.joined(events):
        is_answer = (
            bool(heads)
            and heads[-1].kind in words.CAUSES
            and event.kind in words.ANSWERS
            and event.step == heads[-1].step + 1
        )
        if not is_answer:
            heads.append(event)
    return heads
