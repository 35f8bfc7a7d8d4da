"""Random numbers that compile quickly.

XLA takes two to four seconds on a CPU to compile each draw whose key is derived in the
same program, so whatever a workload needs at one place comes from a single draw.
"""

import math

import jax
import jax.numpy as jnp


def normal(key: jax.Array, *shapes: tuple[int, ...]) -> list[jax.Array]:
    """Standard normal arrays of these shapes."""
    return _cut(jax.random.normal(key, (sum(map(math.prod, shapes)),)), shapes)


def uniform(key: jax.Array, *shapes: tuple[int, ...]) -> list[jax.Array]:
    """Arrays of these shapes, uniform in [0, 1)."""
    return _cut(jax.random.uniform(key, (sum(map(math.prod, shapes)),)), shapes)


def integers(uniform: jax.Array, stop: int) -> jax.Array:
    """Uniform numbers as integers in [0, stop); `jax.random.randint` draws twice."""
    return jnp.minimum((uniform * stop).astype(jnp.int32), stop - 1)


def _cut(flat: jax.Array, shapes: tuple[tuple[int, ...], ...]) -> list[jax.Array]:
    pieces, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        pieces.append(flat[start:stop].reshape(shape))
        start = stop
    return pieces
