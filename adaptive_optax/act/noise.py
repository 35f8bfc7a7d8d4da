r"""The noise η of the dither: mean 0, variance 1, the same bits on every mesh.

Bits are threefry's, from a counter for each word, so each device draws its own part of
an array and no device needs another's. (The ``rbg`` generator would give other bits on
other meshes.)

A Rademacher η = ±1 needs one bit. A word of 32 bits gives the signs of 32 neighbours
along one axis, so a 32nd of the words is drawn. The signs of a leaf are

.. math:: s_{ij} = 1 - 2 \cdot \mathrm{bit}_{i \bmod 32}(w_{\lfloor i/32 \rfloor j})

where i runs along the packed axis. That axis depends on the leaf's shape alone, never
on its sharding.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

DISTRIBUTIONS = ("gaussian", "rademacher")
WORD = 32  # bits, and so signs, in one word


def draw(key: jax.Array, like: jax.Array, distribution: str) -> jax.Array:
    """η of the shape (and, on a mesh with explicit axes, the sharding) of ``like``.

    It is float32. For a complex leaf it is complex64, with half of the variance in each
    part.

    Args:
      key: A threefry key.
      like: The leaf that the noise is for.
      distribution: A name in `DISTRIBUTIONS`.

    Example:
      >>> key = jax.random.key(0, impl="threefry2x32")
      >>> print(jnp.abs(draw(key, jnp.zeros(3), "rademacher")))
      [1. 1. 1.]
    """
    sample = _gaussian if distribution == "gaussian" else _rademacher
    real = _placed(functools.partial(sample, shape=like.shape), like)
    if not jnp.iscomplexobj(like):
        return real(key)
    parts = jax.random.split(key)
    return jax.lax.complex(real(parts[0]), real(parts[1])) * math.sqrt(0.5)


def packed_axis(shape: tuple[int, ...]) -> int:
    """The axis along which signs share a word.

    It wastes the fewest bits. Of those that waste none it is the one that splits most
    often into halves of whole words, as a mesh splits it, and then the first.
    """

    def cost(axis: int) -> tuple[float, int]:
        n = shape[axis]
        return words(n) * WORD / n, -(n & -n)

    return min(range(len(shape)), key=cost)


def words(n: int) -> int:
    """How many words hold ``n`` bits."""
    return -(-n // WORD)


def _placed(
    sample: Callable[[jax.Array], jax.Array], like: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """The sample lies where ``like`` does, also on a mesh with explicit axes."""
    sharding = jax.typeof(like).sharding
    axes = sharding.mesh.explicit_axes
    if not axes:
        return sample
    placed: Any = jax.sharding.auto_axes(sample, axes=axes, out_sharding=sharding)
    return placed


def _gaussian(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(key, shape, jnp.float32)


def _rademacher(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.where(_coins(key, shape), jnp.float32(-1), jnp.float32(1))


def _coins(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Fair coins, bool."""
    if 0 in shape:
        return jnp.zeros(shape, bool)
    if not shape:
        return jax.random.bits(key, (), jnp.uint32) > 0x7FFFFFFF
    axis = packed_axis(shape)
    before, n, after = shape[:axis], shape[axis], shape[axis + 1 :]
    drawn = jax.random.bits(key, (*before, words(n), *after), jnp.uint32)
    # The barrier has each word drawn once. A fusion would draw it for every sign.
    drawn = jnp.expand_dims(jax.lax.optimization_barrier(drawn), axis + 1)
    across = [WORD if i == axis + 1 else 1 for i in range(drawn.ndim)]
    place = jax.lax.broadcasted_iota(jnp.uint32, across, axis + 1)
    drawn = (drawn >> place).reshape(*before, words(n) * WORD, *after)
    return jax.lax.slice_in_dim(drawn, 0, n, axis=axis) & 1 > 0
