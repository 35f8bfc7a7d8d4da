"""The size of the gradient: norms, their usual range, and their sum of squares."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees
from adaptive_optax.sense import estimators

LARGEST = 1e37  # larger values count as non-finite: differences overflow


class Gradient(NamedTuple):
    """One packed f32[4]."""

    log_norm: jax.Array  # mean
    log_spread: jax.Array  # mean distance from it, from the second norm on
    norms_seen: jax.Array
    total: jax.Array  # sum of squared norms

    @property
    def deviation(self) -> jax.Array:
        """The standard deviation of a Gaussian log norm with this spread."""
        return self.log_spread * math.sqrt(math.pi / 2)


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
      ignored: bool[n], which are left out of the global norm: the frozen ones, whose
        gradients may have been skipped; None for no leaf.
    """
    norms = _trees.leaf_norms(grads, stacked)
    squares = norms * norms
    square = jnp.sum(squares if ignored is None else jnp.where(ignored, 0.0, squares))
    return GradientNorms(norms, square, jnp.isfinite(square))


def weight(g: Gradient, norms: GradientNorms, large: Any) -> jax.Array:
    """How much the directions of a gradient count, f32[] in [0, 1].

    It is min(1, |g| / exp(mean + large deviations)), of the log norms before this one;
    1 before the third of them. A cosine counts a small gradient as much as a large one.
    Times this it is the product that a hypergradient is, but a gradient that is large
    among the earlier ones counts no more than others that are.

    Args:
      g: The statistics before this gradient.
      norms: Of this step's gradient.
      large: How many standard deviations of the log norm above its mean.
    """
    ok = norms.finite & (norms.square > 0) & (g.norms_seen > 1)
    log_norm = 0.5 * jnp.log(jnp.where(ok, norms.square, 1.0))
    large = jnp.asarray(large, jnp.float32)  # the state's cosines stay float32
    beyond = log_norm - g.log_norm - large * g.deviation
    return jnp.where(ok, jnp.exp(jnp.minimum(beyond, 0.0)), 1.0)


def observe(
    g: Gradient, norms: GradientNorms, decay: float
) -> tuple[Gradient, jax.Array]:
    """The extended statistics, and the z-score of this log norm among earlier ones.

    Args:
      g: The statistics.
      norms: Of this step's gradient.
      decay: Of the means of the log norm.
    """
    ok = norms.finite & (norms.square > 0)
    log_norm = 0.5 * jnp.log(jnp.where(ok, norms.square, 1.0))
    spread = g.deviation
    known = ok & (spread > 0)
    z = jnp.where(known, (log_norm - g.log_norm) / jnp.where(known, spread, 1.0), 0.0)
    seen = g.norms_seen + ok
    ages = jnp.stack([seen, jnp.maximum(seen - 1, 0.0)])
    ones = estimators.ones((decay,), ages[None])
    weights = estimators.exponential_weights((decay,), ones)
    weights = jnp.where(ok, weights[0], 0.0)
    now = jnp.stack([log_norm, jnp.abs(log_norm - g.log_norm)])
    means = jnp.stack([g.log_norm, g.log_spread])
    means = means + weights * (now - means)
    total = g.total + jnp.where(ok, norms.square, 0.0)
    log_norm, log_spread = means
    return Gradient(log_norm, log_spread, seen, jnp.minimum(total, LARGEST)), z
