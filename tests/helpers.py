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


def with_judges(state: Any, **changes: Any) -> Any:
    """The scheduler's state with something else in its supervisor's memory."""
    judges = state.recovery.judges._replace(**changes)
    recovery = state.recovery._replace(remembered=_trees.pack(judges))
    return state._replace(recovery=recovery)
