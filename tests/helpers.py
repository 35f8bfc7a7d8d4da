"""What several test files share."""

from collections.abc import Collection, Iterable
from typing import Any

import jax.numpy as jnp
import pytest

from adaptive_optax import _trees
from adaptive_optax._types import Rule


def few(cases: Iterable[Any], chosen: Collection[Any]) -> list[Any]:
    """Cases for ``parametrize``: the chosen stand for all, the others are slow."""
    cases = list(cases)
    strangers = [case for case in chosen if case not in cases]
    assert not strangers, f"no cases: {strangers}"
    return [case if case in chosen else slow(case) for case in cases]


def slow(case: Any) -> Any:
    """A case that runs only where the slow ones are asked for."""
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)


def always(delta: float) -> Rule:
    """A law that asks for the same change at every step."""
    return Rule(lambda: (), lambda signals, state: (jnp.float32(delta), state))


class Conditions:
    """The conditions of a twin, and which of them have decided.

    A condition *decides* at a step if the others hold, so that it alone says yes or no.
    One that never did could be left out and nobody would see it.
    """

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.decided: set[str] = set()

    def forget(self) -> None:
        """Begin anew."""
        self.asked, self.decided = set(), set()

    def every(self, name: str, **conditions: bool) -> bool:
        """Whether all hold; notes the one that decides."""
        against = [key for key, holds in conditions.items() if not holds]
        self.asked |= {f"{name}: {key}" for key in conditions} | {name}
        if len(against) < 2:
            self.decided.add(f"{name}: {against[0]}" if against else name)
        return not against


def with_judges(state: Any, **changes: Any) -> Any:
    """The scheduler's state with something else in its supervisor's memory."""
    judges = state.recovery.judges._replace(**changes)
    recovery = state.recovery._replace(remembered=_trees.pack(judges))
    return state._replace(recovery=recovery)
