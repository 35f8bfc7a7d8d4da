"""A run, as far as it was recorded, and what can be read off it."""

import math
from typing import NamedTuple

import numpy as np

from adaptive_optax._reasons import EventKind as Kind
from adaptive_optax.watch.event_log import Event
from adaptive_optax.watch.words import span, when

LEVEL = 0.15  # of its first value: a loss that has fallen by less may not have moved
SETTLED = 60  # steps before that can be said


class Run(NamedTuple):
    """A run, as far as it was recorded."""

    events: list[Event]
    end: dict[str, float]  # the last snapshot
    columns: dict[str, np.ndarray]  # all of them; empty where only a state is known
    observed: bool

    def of(self, *kinds: Kind) -> list[Event]:
        """The events of these kinds."""
        return [event for event in self.events if event.kind in kinds]

    def got(self, key: str) -> float:
        """A number of the last snapshot; 0 where it was not collected."""
        return self.end.get(key, 0.0)

    @property
    def what(self) -> str:
        """What is judged."""
        rewards = self.columns.get("reward", np.asarray([self.got("reward")]))
        return "reward" if np.any(np.nan_to_num(rewards) != 0) else "loss"

    @property
    def now(self) -> float:
        """Where it is now."""
        if self.what == "loss":
            return self.got("loss_fast")
        rewards = self._column("reward")
        return float(np.mean(rewards[-_few(rewards) :]))

    @property
    def whole(self) -> bool:
        """Whether it was recorded from its first step on."""
        steps = self._column("steps")
        return bool(self.columns) and bool(len(steps)) and steps[0] <= 1

    @property
    def first(self) -> float | None:
        """Its first value, if that is known."""
        column = self._column(self.what)
        if self.whole and len(column):
            return float(column[0])
        passed = self.of(Kind.START_PASSED)
        return passed[0].bound if passed and self.what == "loss" else None

    @property
    def unmoved(self) -> bool:
        """Whether a loss is where it was at the start, but for its noise.

        Where the law only watched, that says nothing: no other rate was tried.
        """
        if self.observed:
            return False
        losses = self._column("loss")
        if self.what != "loss" or not self.whole or len(losses) <= SETTLED:
            return False
        few = len(losses) // 20 + 3
        early, late = losses[:few], losses[-few:]
        fall = float(np.mean(early) - np.mean(late))
        error = math.sqrt((np.var(early) + np.var(late)) / few)
        level = abs(fall) < min(LEVEL * abs(float(np.mean(early))), 3 * error)
        return level and not self.diverged

    @property
    def diverged(self) -> bool:
        """Whether the loss is far above its first value, on the same data."""
        if self.first is None or self.what != "loss" or self.of(Kind.NEW_DATA):
            return False
        return self.now > self.first + max(abs(self.first), 1e-30)

    def _column(self, key: str) -> np.ndarray:
        column = self.columns.get(key, np.asarray([self.got(key)]))
        return column[np.isfinite(column)]


def _few(column: np.ndarray) -> int:
    return max(1, len(column) // 50)


def steps_of(events: list[Event], most: int = 4) -> str:
    """Where they were: the first few of them."""
    spans: list[Event] = []
    for event in events:
        if spans and event.step <= spans[-1].last + 1:
            spans[-1] = spans[-1]._replace(last=event.last)
        else:
            spans.append(event)
    if len(spans) == 1:
        return when(spans[0])
    told = [span(event) for event in spans[:most]]
    rest = "others" if len(spans) > most else told.pop() if told else ""
    return f"steps {', '.join(told)} and {rest}"
