"""The loop says why it did what it did."""

from typing import Any

import jax
import numpy as np

from adaptive_optax.events import SIZE
from adaptive_optax.watch import words
from adaptive_optax.watch.columns import listed
from adaptive_optax.watch.event_log import EventLog
from adaptive_optax.watch.findings import paragraph
from adaptive_optax.watch.history import History
from adaptive_optax.watch.run import Run
from adaptive_optax.watch.snapshot import read

_NEEDED = ("lr_scale", "event_count", "event_observed")  # of each optimizer


def explain(run: Any) -> str:
    """What happened in a run, and what it comes to, in words.

    One line an event: the step, what was done and on which figure, and the rate before
    and after. Then a paragraph: what went wrong, how far the base rate was from where
    the run wanted it, and what to do next time. A step's number is that of
    ``snapshot(state)["steps"]``: the first update is step 1.

    Args:
      run: A `History`, which knows every event of the run, or a state (in whatever
        holds it, as for `snapshot`), which knows the last 32.

    Returns:
      Lines of text.

    Raises:
      ValueError: If there is nothing of `adaptive_scheduler` in it, or if it is of a
        population of runs.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import adaptive_optax as ao
      >>> tx = ao.adaptive_scheduler(optax.sgd, learning_rate=30.0)
      >>> @jax.jit
      ... def step(params, state):
      ...     loss, grads = jax.value_and_grad(lambda x: jnp.mean(x**2))(params)
      ...     updates, state = tx.update(grads, state, params, value=loss)
      ...     return optax.apply_updates(params, updates), state
      >>> params, state = jnp.ones(3), tx.init(jnp.ones(3))
      >>> for _ in range(5):
      ...     params, state = step(params, state)
      >>> print(ao.explain(state).splitlines()[0])
      step 4: the start was thrown away: the loss rose to 36, above 1.5; with the
      earlier parameters the loss was normal again, so the rate was too high; learning
      rate 30 -> 1.2

    References:
      docs/reading_a_run.md: six runs, their pictures and these words.
    """
    if isinstance(run, History):
        if not len(run):
            return "Nothing was collected yet: call history.append(state)."
        columns = run.as_dict()
        log, events = None, run.events
    else:
        columns = {key: np.asarray(x)[None] for key, x in _read(run).items()}
        log = EventLog()
        columns = log.take(columns)
        events = log.events
    if log is not None and log.many:
        raise ValueError(
            "this is the state of a population; explain one member: "
            "explain(jax.tree.map(lambda x: x[0], state))."
        )
    places = [
        place
        for place in dict.fromkeys(key[: key.rfind("/") + 1] for key in columns)
        if all(place + name in columns for name in _NEEDED)
    ]
    if not places:
        raise ValueError(
            "there are no events of adaptive_scheduler in it, got "
            f"{listed(columns)}; try explain(opt_state), or collect "
            "history.append(opt_state)."
        )
    told = []
    for place in places:
        own = {
            key.removeprefix(place): x
            for key, x in columns.items()
            if key.startswith(place) and "/" not in key.removeprefix(place)
        }
        one = Run(
            events=words.joined([event for event in events if event.of == place]),
            end={key: _last(x) for key, x in own.items() if x.ndim == 1},
            columns=own if log is None else {},
            observed=bool(_last(own["event_observed"])),
        )
        heading = [f"{place.rstrip('/')}:"] if place else []
        told.append("\n".join([*heading, *_all(one)]))
    return "\n\n".join(told)


def _all(run: Run) -> list[str]:
    """The lines of one run."""
    lines = words.lines(run.events, observed=run.observed, what=run.what)
    if run.observed:
        lines = ["The law only watched: all this is what it would have done.", *lines]
    forgotten = int(run.got("event_count")) - len(run.events)
    if forgotten > 0 and not run.columns:
        earlier = words.count(forgotten, "earlier event is", "earlier events are")
        lines = [f"{earlier} not in the state any more; a History keeps all.", *lines]
    return [*lines, *([""] if lines else []), paragraph(run)]


def _read(state: Any) -> dict[str, Any]:
    """The snapshot with all its events, on the host."""
    try:
        return jax.device_get(read(state, SIZE))
    except ValueError as error:
        raise ValueError(
            f"nothing can be explained of a {type(state).__name__}: {error}"
        ) from error


def _last(column: np.ndarray) -> float:
    """The last number that was collected."""
    known = column[np.isfinite(column)]
    return float(known[-1]) if len(known) else float("nan")
