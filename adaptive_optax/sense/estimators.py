"""Running means without a bias at the start, all moved by one formula.

    mean <- mean + w_n (x - mean)
    w_n = (1 - b) / (1 - b^n)       exponential: the usual average over that of ones
    w_n = (p + 1) / (n + p)         polynomial: about the last 1 / (p + 1) of them all

n counts the new value. Both weights are 1 at the first value, up to rounding, so no
mean has a bias.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

SLOWER = 5  # horizons of a fast mean are in that of the slow one beside it


def slower(decay: float) -> float:
    """The decay of the slow mean beside a fast one: its horizon is five times that."""
    return 1 - (1 - decay) / SLOWER


def ones(decays: Sequence[float], n: jax.Array) -> jax.Array:
    """1 - b^n, the average of n ones; accurate even where it is small.

    Args:
      decays: b of each row, in (0, 1).
      n: f32[rows, columns], or one row for all of them, >= 0.
    """
    logs = np.asarray([[math.log(b)] for b in decays], np.float32)
    return -jnp.expm1(logs * n)


def exponential_weights(decays: Sequence[float], ones: jax.Array) -> jax.Array:
    """w_n of exponential means, a row for each; 0 where n is 0."""
    shares = np.asarray([[1 - b] for b in decays], np.float32)
    return jnp.where(ones > 0, shares / jnp.where(ones > 0, ones, 1.0), 0.0)


def polynomial_weight(power: float | np.ndarray, n: jax.Array) -> jax.Array:
    """w_n of a polynomial mean; n >= 1."""
    return jnp.divide(power + 1, n + power)
