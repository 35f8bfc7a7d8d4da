"""The events of a run as a list, put together from the rings of its snapshots."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from adaptive_optax._reasons import EventKind
from adaptive_optax.events import TABLES

SINGLE = (
    EventKind.SKIPPED,
    EventKind.NONFINITE_GRADIENT,
    EventKind.NONFINITE_STEP,
)
"""Kinds of which each batch is wanted, and not only the first and the last."""


class Event(NamedTuple):
    """Something that happened in a run; steps are counted from 1 on.

    What lasts has a ``last`` step, and ``times`` counts its steps. ``before`` and
    ``after`` are the rate that the controller aims at (without warm-up and planned
    end), or the frozen share where something froze or thawed.
    """

    step: int
    kind: EventKind
    figure: float  # that decided
    bound: float  # that it passed
    before: float
    after: float
    last: int
    times: int
    of: str = ""  # the optimizer, where a state holds several: "encoder/"


class EventLog:
    """Collects the events of snapshots that come one after the other."""

    def __init__(self) -> None:
        """Start empty."""
        self.events: list[Event] = []
        self.many = False  # snapshots were those of a population
        self._counts: dict[str, int] = {}
        self._rows: dict[str, dict[int, tuple[int, int]]] = {}  # event: times, place

    def take(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Read the tables of stacked snapshots; returns the other columns."""
        for key in [key for key in columns if key.endswith(TABLES[0])]:
            of = key.removesuffix(TABLES[0])
            runs, figures = (np.asarray(columns[of + table]) for table in TABLES)
            if runs.ndim != 3:
                self.many = True
                continue
            self._extend(of, runs, figures, np.asarray(columns[of + "event_count"]))
        return {key: x for key, x in columns.items() if not key.endswith(TABLES)}

    def _extend(
        self, of: str, runs: np.ndarray, figures: np.ndarray, counts: np.ndarray
    ) -> None:
        changed = np.any(runs[1:] != runs[:-1], axis=(1, 2))
        changed |= counts[1:] != counts[:-1]
        for t in (0, *(1 + np.flatnonzero(changed))) if len(runs) else ():
            count = int(counts[t])
            if count < self._counts.get(of, 0):  # another run has begun
                self._rows[of] = {}
            self._counts[of] = count
            first = count - runs.shape[1]
            for i in range(max(0, -first), runs.shape[1]):
                self._add(of, first + i, runs[t, i].tolist(), figures[t, i].tolist())

    def _add(self, of: str, number: int, run: list[int], figures: list[float]) -> None:
        """One row of a ring: a new event, or one that goes on, or nothing new."""
        rows = self._rows.setdefault(of, {})
        which, step, last, total = run
        times, place = rows.get(number, (0, 0))
        grown = total - times
        if not grown:
            return
        kind = EventKind(which)
        event = Event(step, kind, *figures, last=last, times=total, of=of)
        if times and kind in SINGLE and grown == 1:
            event = event._replace(step=last, times=1)
        elif times:
            seen = self.events[place]
            event = event._replace(step=seen.step, times=seen.times + grown)
            self.events[place] = event
            rows[number] = total, place
            return
        rows[number] = total, len(self.events)
        self.events.append(event)

    def arrays(self) -> dict[str, np.ndarray]:
        """The events as arrays, to be saved."""
        if not self.events:
            return {}
        numbers = [event[:-1] for event in self.events]
        names = [event.of for event in self.events]
        return {"events": np.asarray(numbers, float), "events_of": np.asarray(names)}

    def restore(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """Read what `arrays` gave; returns the others."""
        rows, names = arrays.get("events", ()), arrays.get("events_of", ())
        for row, of in zip(rows, names, strict=True):
            step, kind, *figures = row.tolist()[:6]
            last, times = map(int, row[6:])
            event = Event(
                int(step), EventKind(int(kind)), *figures, last=last, times=times
            )
            self.events.append(event._replace(of=str(of)))
        return {k: x for k, x in arrays.items() if k not in ("events", "events_of")}
