"""The last things that happened in a run: a ring of 32 events in the state.

An event is a kind, the step, the figure that decided and the bound that it passed, and
the rate before and after. What lasts is one event from its first step to its last, even
if it pauses: it goes on if it is among the last 8 events, those of this step counted,
and its last step was not longer ago than ``max(31, age / 5)`` steps. So no kind can
push all others out.

The ring is written by selects. A scatter would be a loop on a CPU.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax._reasons import LASTING, Reason
from adaptive_optax.law import Law

SIZE = 32  # a power of 2
RECENT = 8  # the newest events, of which one may go on
RUN = ("kind", "step", "last", "times")  # columns of `EventsState.event_runs`
FIGURES = ("figure", "bound", "before", "after")  # of `EventsState.event_figures`


class EventsState(NamedTuple):
    """The ring; event n is in row n modulo 32."""

    event_runs: jax.Array  # i32[32, 4] kind, first step, last step, times
    event_figures: jax.Array  # f32[32, 4] figure, bound, before, after
    event_count: jax.Array  # i32[] all that there have been
    event_observed: jax.Array  # bool[] the law only watches: it would have done this


_RUN = {name: np.arange(len(RUN))[None] == i for i, name in enumerate(RUN)}
_FIGURES = {name: np.arange(len(FIGURES))[None] == i for i, name in enumerate(FIGURES)}

FIELDS = EventsState._fields
TABLES = FIELDS[:2]
"""The fields with a row an event."""


class Entry(NamedTuple):
    """What may have happened in a step, and a gain before and after it."""

    reason: Reason
    before: Any  # f32[]
    after: Any  # f32[]


def init_events() -> EventsState:
    """Nothing has happened."""
    return EventsState(
        event_runs=jnp.zeros((SIZE, len(RUN)), jnp.int32),
        event_figures=jnp.zeros((SIZE, len(FIGURES)), jnp.float32),
        event_count=jnp.zeros((), jnp.int32),
        event_observed=jnp.zeros((), bool),
    )


def record(
    state: EventsState,
    step: jax.Array,
    entries: Sequence[Entry],
    *,
    observed: bool = False,
) -> EventsState:
    """Write what happened in one step.

    Args:
      state: The ring.
      step: i32[] the number of the update, from 1 on.
      entries: What may have happened, at most 8.
      observed: The law only watches. Then any kind may last, for nothing is undone.
    """
    assert len(entries) <= RECENT
    kinds = _column([entry.reason.kind for entry in entries])
    told = _column(
        [
            x
            for reason, before, after in entries
            for x in (reason.figure, reason.bound, before, after)
        ]
    ).reshape(len(entries), len(FIGURES))
    # The barriers keep XLA from computing a small table anew for each of its readers.
    told = jax.lax.optimization_barrier(jnp.where(jnp.isfinite(told), told, 0.0))
    happened = kinds > 0
    places = jnp.arange(SIZE)
    kind, last = (state.event_runs[:, RUN.index(name)] for name in ("kind", "last"))
    # A snapshot of this step has the newest 8, those that begin now among them.
    age = _place(state.event_count - 1 - places)
    while_ago = jnp.maximum(
        Law().level_after, jax.lax.div(step, np.int32(round(1 / Law().lately)))
    )
    may_go_on = age + jnp.sum(happened) < RECENT
    may_go_on &= (step - last <= while_ago) & ((kind >= LASTING) | observed)
    same = (kinds[:, None] == kind[None]) & may_go_on[None] & happened[:, None]
    latest = jnp.min(jnp.where(same, age, SIZE), axis=1)
    begins = jax.lax.optimization_barrier(happened & (latest == SIZE))
    rank = jnp.sum(np.tri(len(entries), k=-1, dtype=bool) & begins[None], axis=1)
    begins_at = jnp.where(begins, _place(state.event_count + rank), SIZE)
    goes_on_at = jnp.where(begins, SIZE, _place(state.event_count - 1 - latest))
    goes_on_at = jnp.where(happened, goes_on_at, SIZE)
    numbers = np.arange(len(entries))[:, None]
    # Which entry a row takes; from `RECENT` on, one that begins.
    row = jnp.where(begins_at[:, None] == places[None], numbers + RECENT, 2 * RECENT)
    row = jnp.where(goes_on_at[:, None] == places[None], numbers, row)
    row = jax.lax.optimization_barrier(jnp.min(row, axis=0))[:, None]
    written, new, which = row < 2 * RECENT, row >= RECENT, row[:, 0] % RECENT

    begun = jnp.where(_RUN["kind"], kinds[which][:, None], step)
    begun = jnp.where(_RUN["times"], 1, begun)
    going = jnp.where(_RUN["last"], step, state.event_runs + _RUN["times"])
    figures = jnp.where(~new & _FIGURES["before"], state.event_figures, told[which])
    count = state.event_count + jnp.sum(begins, dtype=jnp.int32)
    return EventsState(
        event_runs=jnp.where(written, jnp.where(new, begun, going), state.event_runs),
        event_figures=jnp.where(written, figures, state.event_figures),
        event_count=jnp.where(count < 0, np.iinfo(np.int32).max, count),
        event_observed=jnp.full_like(state.event_observed, observed),
    )


def _place(number: jax.Array) -> jax.Array:
    """The row of an event."""
    return number & (SIZE - 1)


def _column(values: Sequence[Any]) -> jax.Array:
    """The numbers as a vector, by selects: of a stack XLA makes a kernel a number."""
    column = jnp.zeros(len(values), jnp.result_type(*values))
    for i, value in enumerate(values):
        column = jnp.where(np.arange(len(values)) == i, value, column)
    return column


def newest(state: EventsState, rows: int = RECENT) -> tuple[jax.Array, jax.Array]:
    """The newest rows, oldest first; leading axes of a batch stay.

    Rows of kind 0 come first where there have been fewer.
    """
    places = _place(state.event_count[..., None] - rows + jnp.arange(rows))
    runs, figures = (
        jnp.take_along_axis(x, places[..., None], axis=-2)
        for x in (state.event_runs, state.event_figures)
    )
    return runs, figures
