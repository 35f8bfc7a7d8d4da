"""The last things that happened in a run: a ring of 32 events in the state.

An event is a kind, the step, the figure that decided and the bound that it passed, and
the rate before and after. What lasts is one event from its first step to its last, even
if it pauses: it goes on if it is among the last 8 events, those of this step counted,
and its last step was not longer ago than ``max(31, age / 5)`` steps. So no kind can
push all others out.

The ring is written by selects in one pass, and nothing is written by a scatter: a CPU
would make a loop of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees
from adaptive_optax._reasons import LASTING, Reason
from adaptive_optax.law import Law

SIZE = 32
RECENT = 8  # the newest events, of which one may go on
RUN = ("kind", "step", "last", "times")  # columns of `EventsState.event_runs`
FIGURES = ("figure", "bound", "before", "after")  # of `EventsState.event_figures`


class EventsState(NamedTuple):
    """The ring; event n is in row n modulo 32."""

    event_runs: jax.Array  # i32[32, 4] kind, first step, last step, times
    event_figures: jax.Array  # f32[32, 4] figure, bound, before, after
    event_count: jax.Array  # i32[] all that there have been
    event_observed: jax.Array  # bool[] the law only watches: it would have done this


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
    kinds = jnp.stack([entry.reason.kind for entry in entries])
    places = jnp.arange(SIZE)
    kind, first, last, times = (state.event_runs[:, i] for i in range(len(RUN)))
    # A snapshot of this step has the newest 8, those that begin now among them.
    age = (state.event_count - 1 - places) % SIZE
    newest = age + jnp.sum(kinds > 0) < RECENT
    while_ago = jnp.maximum(Law().level_after, step // round(1 / Law().lately))
    may_go_on = newest & (step - last <= while_ago) & ((kind >= LASTING) | observed)
    same = (kinds[:, None] == kind) & may_go_on & (kinds > 0)[:, None]
    latest = jnp.min(jnp.where(same, age, SIZE), axis=1)
    goes_on = same & (age == latest[:, None])
    begins = (kinds > 0) & (latest == SIZE)

    runs, figures, count = state.event_runs, state.event_figures, state.event_count
    for i, (reason, before, after) in enumerate(entries):
        new = (places == count % SIZE) & begins[i]
        written = (new | goes_on[i])[:, None]
        run = [reason.kind, jnp.where(new, step, first), step]
        run = _rows(*run, jnp.where(new, 1, times + 1))
        begun = jnp.where(new, before, state.event_figures[:, 2])
        told = _rows(reason.figure, reason.bound, begun, after)
        runs = jnp.where(written, run, runs)
        figures = jnp.where(written, _finite(told), figures)
        count = jnp.where(begins[i], _trees.next_count(count), count)
    return EventsState(
        event_runs=runs,
        event_figures=figures,
        event_count=count,
        event_observed=jnp.full_like(state.event_observed, observed),
    )


def newest(state: EventsState, rows: int = RECENT) -> tuple[jax.Array, jax.Array]:
    """The newest rows, oldest first; leading axes of a batch stay.

    Rows of kind 0 come first where there have been fewer.
    """
    places = (state.event_count[..., None] - rows + jnp.arange(rows)) % SIZE
    runs, figures = (
        jnp.take_along_axis(x, places[..., None], axis=-2)
        for x in (state.event_runs, state.event_figures)
    )
    return runs, figures


def _rows(*columns: Any) -> jax.Array:
    """A table of columns, each a scalar or one number a row."""
    return jnp.stack([jnp.broadcast_to(x, (SIZE,)) for x in columns], axis=1)


def _finite(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, 0.0)
