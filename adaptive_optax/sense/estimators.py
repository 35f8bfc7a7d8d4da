"""Averages that are exact while they are young.

An exponential average from zero is biased towards zero. Over the average of as many
ones it is not, whatever was skipped::

    m_n = b m_(n-1) + (1 - b) x_n          debiased: m_n / (1 - b^n)
"""

import math

import jax
import jax.numpy as jnp


def debiased(ema: jax.Array, decay: float, n: jax.Array) -> jax.Array:
    """An EMA from zero over the EMA of as many ones; 0 before the first value."""
    return jnp.where(n > 0, ema / jnp.where(n > 0, ones(decay, n), 1.0), 0.0)


def ones(decay: float, n: jax.Array) -> jax.Array:
    """The same average of n ones, 1 - decay^n; exact where it is small."""
    return -jnp.expm1(n * math.log(decay))
