"""The transformation and the parameters that the functions of this folder take."""

from typing import Any

import jax
from jax.sharding import Sharding

from adaptive_optax import _trees
from adaptive_optax.state import AdaptiveSchedulerState


def check(call: str, tx: Any, params: Any) -> None:
    """Require a transformation, and then parameters.

    Args:
      call: The right call, for messages.
      tx: What should be the transformation.
      params: What should be the parameters.

    Raises:
      TypeError: If one of them is something else.
    """
    if _transforms(params):
        raise TypeError(
            "`params` must be the parameters, got a transformation: the arguments are "
            f"swapped; call {call}."
        )
    if not _transforms(tx):
        got = getattr(tx, "__name__", type(tx).__name__)
        hint = f"build it first, {got}(...), and" if callable(tx) else "then"
        raise TypeError(
            f"`tx` must be an Optax transformation, got {got}; {hint} call {call}."
        )
    if params is None:
        raise TypeError(f"`params` must be the parameters, got None; call {call}.")
    if _trees.find_states(params, AdaptiveSchedulerState):
        raise TypeError(
            f"`params` must be the parameters, got an optimizer's state; call {call}."
        )
    if any(isinstance(leaf, Sharding) for leaf in jax.tree.leaves(params)):
        raise TypeError(
            f"`params` must be the parameters, got their shardings; call {call}."
        )


def _transforms(x: Any) -> bool:
    return hasattr(x, "init") and hasattr(x, "update")
