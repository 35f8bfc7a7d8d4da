"""Helpers of all rules: did the measurement arrive, and is it finite?"""

from typing import Any

import jax
import jax.numpy as jnp

from adaptive_optax._types import Signals


def heard(arrived: jax.Array, *measurements: jax.Array) -> jax.Array:
    """Whether the measurements came with this step and are finite."""
    sound = jnp.asarray(arrived, jnp.bool_)
    for measurement in measurements:
        sound = sound & jnp.isfinite(measurement)
    return sound


def may_vote(signals: Signals) -> jax.Array:
    """Whether the alignment counts: a few cosines seen, no warm-up, no restore."""
    heard = signals.alignment.arrived & (signals.alignment.count > 3)
    return heard & ~signals.standing.warming & ~signals.standing.restored


def log(factor: Any) -> jax.Array:
    """The log of a factor of the gain, strongly typed."""
    return jnp.log(jnp.asarray(factor, jnp.float32))


def vote(z: jax.Array, deadzone: Any) -> jax.Array:
    """+1 where a signal is significantly positive, -1 where negative, else 0."""
    return jnp.where(jnp.abs(z) > deadzone, jnp.sign(z), 0.0)


def by_vote(choice: jax.Array, up: Any, down: Any) -> jax.Array:
    """log(up), 0 or log(down) for a positive, a zero or a negative choice."""
    return jnp.where(choice > 0, log(up), jnp.where(choice < 0, log(down), 0.0))


def hold_unless(
    allowed: jax.Array, delta: jax.Array, state: Any, previous: Any
) -> tuple[jax.Array, Any]:
    """The delta and the next state; both hold exactly unless allowed and finite."""
    moves = allowed & jnp.isfinite(delta)
    kept = jax.tree.map(
        lambda new, old: jnp.where(moves, new, old).astype(old.dtype), state, previous
    )
    return jnp.where(moves, delta, 0.0).astype(jnp.float32), kept
