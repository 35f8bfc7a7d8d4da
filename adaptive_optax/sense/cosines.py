"""Averaged cosines of directions: a bank with a column for each.

The *alignment* c_t = cos(-g_t, theta_t - theta_{t-1}) tells whether the new gradient
still agrees with the last step. It is positive while steps are too short and negative
when they overshoot. (R. Jacobs, 1988, delta-bar-delta, has it per coordinate; Baydin et
al., 2018, as the hypergradient; here it is one cosine, normalised and with its standard
error.) It is measured on a sketch of the last step (`sketch`).

The *heading* cos(-g_t, theta_t - anchor), see `motion`, is the same for the
displacement of many steps. It changes more slowly. But noise that hides the direction
of one step averages out of the displacement. And a filter without memory, whose every
step is opposed, still has a useful heading.

The *step correlation* is the averaged cosine of each step with the one before it. It
shows the filter's memory: without momentum a step turns with its gradient, with
momentum it carries on.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax._types import QUICK, Cosine
from adaptive_optax.sense import estimators

SLOW, SPREAD = 0.98, 0.97  # decays, beside that of the quick mean
COLUMNS = 3  # alignment, heading, step correlation

_ENDLESS = np.asarray([[(1 - b) / (1 + b)] for b in (QUICK, SLOW)], np.float32)


class Bank(NamedTuple):
    """The rows of one f32[4, 3]."""

    mean: jax.Array
    slow: jax.Array
    square: jax.Array  # mean squared deviation from the mean before
    seen: jax.Array  # cosines since the start or a restore


def init_bank() -> jax.Array:
    """The bank before the first cosine."""
    return jnp.zeros((len(Bank._fields), COLUMNS), jnp.float32)


def extend(bank: jax.Array, cosine: jax.Array, came: jax.Array) -> jax.Array:
    """Add one cosine to each column; a column without a new one stays as it was.

    Args:
      bank: f32[4, 3], see `Bank`.
      cosine: f32[3].
      came: bool[3].
    """
    old = Bank(*bank)
    n = old.seen + came
    decays = QUICK, SLOW, SPREAD
    weights = estimators.exponential_weights(decays, estimators.ones(decays, n[None]))
    values = jnp.stack([cosine, cosine, (cosine - old.mean) ** 2])
    means = bank[:3]
    means = means + jnp.where(came[None], weights, 0.0) * (values - means)
    return jnp.concatenate([means, n[None]])


def read(bank: jax.Array, cosine: jax.Array, came: jax.Array) -> Cosine:
    """All statistics: a `Cosine` whose entries have a column for each direction."""
    b = Bank(*bank)
    sem, slow_sem = standard_error(b.square[None], b.seen[None], _ENDLESS)
    return Cosine(
        arrived=came,
        value=cosine,
        mean=b.mean,
        sem=sem,
        slow=b.slow,
        slow_sem=slow_sem,
        count=b.seen.astype(jnp.int32),
    )


def standard_error(
    variance: jax.Array, seen: jax.Array, endless: jax.Array | np.ndarray
) -> jax.Array:
    """Standard error of a mean of cosines, taken as white noise.

    The variance of an exponential mean of n values is at most that of an endless one or
    that of a plain mean of n, whichever is larger.

    Args:
      variance: Of one cosine.
      seen: Cosines in the mean.
      endless: Variance of the endless mean for a variance of 1, (1 - b) / (1 + b).
    """
    share = jnp.maximum(endless, 1 / jnp.maximum(seen, 1.0))
    return jnp.sqrt(variance * share) + 1e-6
