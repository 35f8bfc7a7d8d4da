"""Measurements on one device within a time: each begins only if it will end in time."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks import timing

SHORTEST = 20.0  # seconds that the first piece of a kind is taken to need


class Budget:
    """Seconds left, and pieces of work that are begun only if they will end in time."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds
        self._longest: dict[str, float] = {}

    def left(self) -> float:
        return self._end - time.monotonic()

    def piece(self, kind: str, build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``build`` returns, or why it returns nothing."""
        need, left = self._longest.get(kind, SHORTEST), self.left()
        if left < need:
            return {
                "skipped": f"{max(left, 0.0):.0f} s left of the budget, a piece of "
                f"{kind!r} needs about {need:.0f} s"
            }
        began = time.monotonic()
        found, error = timing.attempt(build)
        took = time.monotonic() - began
        self._longest[kind] = max(took, self._longest.get(kind, 0.0))
        return {"error": error} if error else {**found, "seconds": round(took, 1)}


Builds = dict[str, Callable[[], timing.Timed]]


def compare(kind: str, builds: Builds, budget: Budget, repeats: int) -> dict[str, Any]:
    """Step times over the first build's, one at a time: only two fit the memory."""
    baseline = None

    def start() -> dict[str, Any]:
        nonlocal baseline
        baseline = builds[first]()
        return {}

    def against(build: Callable[[], timing.Timed]) -> dict[str, Any]:
        ratios, seconds = timing.paired(baseline, {kind: build()}, repeats)
        return {"step_time_over_plain": ratios[kind], "plain_step_seconds": seconds}

    first, *others = builds
    rows = {first: budget.piece(kind, start)}
    for name in others if baseline else ():
        rows[name] = budget.piece(kind, lambda name=name: against(builds[name]))
    return {"over": first, "rows": rows}
