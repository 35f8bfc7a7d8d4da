"""The size of the gradient: norms, their usual range, and their sum of squares."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees
from adaptive_optax.sense.estimators import debiased

GRADIENT = 0.98  # EMA of the log norm
LARGEST = 1e37  # beyond it differences leave float32: treated as non-finite


class Gradient(NamedTuple):
    """One packed f32[4]."""

    log_norm: jax.Array
    log_spread: jax.Array
    norms_seen: jax.Array
    total: jax.Array  # sum of squared norms


class GradientNorms(NamedTuple):
    """L2 norms of one gradient."""

    leaf_norms: jax.Array  # f32[n], of every leaf, or of every layer of a stacked one
    square: jax.Array  # f32[] of the global norm
    finite: jax.Array  # bool[] every entry is finite, and so is the sum of squares


def gradient_norms(
    grads: Any, stacked: Any = None, ignored: jax.Array | None = None
) -> GradientNorms:
    """Per-leaf and global norms, in float32.

    Args:
      grads: A pytree.
      stacked: Which leaves have a norm for each of their layers; None for no leaf.
      ignored: bool[n], which are left out of the global norm: those that are frozen,
        whose gradients may have been skipped; None for no leaf.
    """
    norms = _trees.leaf_norms(grads, stacked)
    squares = norms * norms
    square = jnp.sum(squares if ignored is None else jnp.where(ignored, 0.0, squares))
    return GradientNorms(norms, square, jnp.isfinite(square))


def observe(g: Gradient, norms: GradientNorms) -> tuple[Gradient, jax.Array]:
    """z-score of the log norm among those before it; then extend the statistics."""
    ok = norms.finite & (norms.square > 0)
    log_norm = 0.5 * jnp.log(jnp.where(ok, norms.square, 1.0))
    mean = debiased(g.log_norm, GRADIENT, g.norms_seen)
    # The spread starts at the second norm, so it is one value younger.
    age = jnp.maximum(g.norms_seen - 1, 0.0)
    spread = debiased(g.log_spread, GRADIENT, age) * math.sqrt(math.pi / 2)
    known = ok & (age > 0) & (spread > 0)
    z = jnp.where(known, (log_norm - mean) / jnp.where(known, spread, 1.0), 0.0)
    counts = jnp.where(g.norms_seen > 0, 1.0, 0.0)
    deviation = jnp.abs(log_norm - mean)
    new = Gradient(
        log_norm=GRADIENT * g.log_norm + (1 - GRADIENT) * log_norm,
        log_spread=g.log_spread + counts * (1 - GRADIENT) * (deviation - g.log_spread),
        norms_seen=g.norms_seen + 1,
        total=jnp.minimum(g.total + jnp.where(ok, norms.square, 0.0), LARGEST),
    )
    return Gradient(*jnp.where(ok, jnp.stack(new), jnp.stack(g))), z
