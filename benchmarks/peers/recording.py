"""One wrapper for peers: constant state types, extra arguments, and a rate to look at.

Some transformations of `optax.contrib` take no extra arguments, and some hold weakly
typed scalars where the learning rate is traced, which `jax.lax.scan` refuses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class RecordedState(NamedTuple):
    """State of `recorded`."""

    learning_rate: jax.Array  # f32[] of the last update
    recorded_count: jax.Array  # i32[] updates before this one
    recorded_inner: optax.OptState


def recorded(
    tx: optax.GradientTransformation, rate: Callable[[Any, jax.Array], Any]
) -> optax.GradientTransformationExtraArgs:
    """Keep the learning rate of the last update in the state, for a control trace.

    Args:
      tx: What trains.
      rate: (state of ``tx`` after the update, i32[] updates before it) -> its rate.

    Returns:
      ``tx`` with the state types of its ``init``, accepting any extra arguments.
    """
    tx = optax.with_extra_args_support(tx)

    def init(params):
        state, count = jax.tree.map(_strong, tx.init(params)), jnp.zeros((), jnp.int32)
        return RecordedState(_f32(rate(state, count)), count, state)

    def update(updates, state, params=None, **extra_args):
        count, inner = state.recorded_count, state.recorded_inner
        updates, new = tx.update(updates, inner, params, **extra_args)
        new = jax.tree.map(lambda x, like: _strong(x).astype(like.dtype), new, inner)
        return updates, RecordedState(_f32(rate(new, count)), count + 1, new)

    return optax.GradientTransformationExtraArgs(init, update)


def trace(state: RecordedState) -> dict[str, jax.Array]:
    """What a `Peer` made of `recorded` shows."""
    return {"learning_rate": state.learning_rate}


def _f32(x: Any) -> jax.Array:
    return _strong(jnp.asarray(x).astype(jnp.float32))


def _strong(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    return jax.lax.convert_element_type(x, x.dtype)  # of its own dtype: not weak
