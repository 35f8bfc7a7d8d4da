"""Statistics of the loss and the reward over time: a bank with a column for each.

A series keeps a fast and a slow exponential mean and the mean absolute innovation
s = E|x - fast|. For Gaussian noise s sqrt(pi/2) is the standard deviation. Unlike the
root of a mean square it does not overflow or underflow at any scale of the loss, and an
outlier counts once, not squared. The trend is

    z = (slow - fast) / (noise * sqrt(Var[slow - fast] / noise^2)),

whose denominator is exact for white noise at every age n. So on a flat loss z is
standard normal from the second value on, whatever the loss's sign, scale and offset.

The long trend is the same z between two means whose horizons grow with the run: of
powers 2 and 8 as in `act.average`, about its last third and its last ninth. A fixed
horizon would take a slow descent for a plateau; the long trend tells whether the run
still improves at its own age.

One value out of n moves these two means by about 3 / n and 9 / n of its innovation. Of
a long run that is less than float32 resolves, and the means would stand still. So from
131,072 values on they take in the slow mean, at every 64th value, with 64 times the
weight. From 2^24 values on, where float32 cannot count, they stand still.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax._types import Series
from adaptive_optax.law import Law
from adaptive_optax.sense import estimators

FAST = Law().ema_decay  # decay of the fast mean of the values where none is given
SPREAD, CALM = 0.95, 0.995  # of the innovations, now and in the long run
SUCCESS = 0.95
FAR, NEAR = 2.0, 8.0  # powers of the polynomial means: about the last 1/3 and 1/9
ALONE, BLOCK = 2.0**17, 64.0  # so many values one by one, and then in blocks
UNSURE = 1e-6  # least variance of slow - fast that its float32 terms tell from 0
LOSS, REWARD = 0, 1  # columns of the bank
BETTER = np.asarray([1.0, -1.0], np.float32)  # a fall of the loss, a rise of the reward

_POWERS = np.asarray([[FAR], [NEAR]], np.float32)


class Bank(NamedTuple):
    """The rows of one f32[11, 2]: with few arrays a small step runs faster."""

    fast: jax.Array  # means of the values
    slow: jax.Array
    spread: jax.Array  # means of the innovations, one fewer than the values
    calm: jax.Array
    success: jax.Array  # mean of "better beyond noise"
    far: jax.Array  # means of the values whose horizon grows with the run
    near: jax.Array
    seen: jax.Array  # values since the start or a restore
    last: jax.Array  # this row and the next two survive a restore
    first: jax.Array
    begun: jax.Array  # 1 once there is a first


_LEAST = np.asarray([[2], [2], [1], [1]], np.float32)  # values behind each quotient
_UNKNOWN = np.asarray([[0], [0], [0], [1]], np.float32)  # what it is before that
_FORGOTTEN = np.asarray([[i < Bank._fields.index("last")] for i in range(11)])


def init_bank() -> jax.Array:
    """The bank before the first value."""
    return jnp.zeros((len(Bank._fields), len(BETTER)), jnp.float32)


def fast_error(decay: float) -> float:
    """Standard error of the fast mean, in noises."""
    return _gain(decay) ** 0.5  # not `math.sqrt`: a law's numbers may be traced


def extend(
    bank: jax.Array, x: jax.Array, came: jax.Array, decay: float = FAST
) -> tuple[jax.Array, jax.Array]:
    """Add one value to each series; a column without a new value stays as it was.

    Args:
      bank: f32[11, 2], see `Bank`.
      x: f32[2], finite.
      came: bool[2].
      decay: Of the fast mean; the slow one's horizon is five times as long.

    Returns:
      The bank, and 1 - b^n of every decay, f32[8, 2], which `read` needs.
    """
    old = Bank(*bank)
    n = old.seen + came
    age = jnp.maximum(n - 1, 0.0)  # a first value has no innovation
    slow = estimators.slower(decay)
    decays = decay, slow, SPREAD, CALM, SUCCESS
    products = decay * decay, slow * slow, decay * slow
    ones = estimators.ones(
        (*decays, *products), jnp.stack([n, n, age, age, age, n, n, n])
    )
    blocks = n > ALONE
    # A count that stands still, at 2^24, is no new one.
    due = (n > old.seen) & (~blocks | (n % BLOCK == 0))
    weights = jnp.concatenate(
        [
            estimators.exponential_weights(decays, ones[: len(decays)]),
            estimators.polynomial_weight(_POWERS, n[None])
            * jnp.where(due, jnp.where(blocks, BLOCK, 1.0), 0.0)[None],
        ]
    )
    lasting = jnp.where(blocks, old.slow, x)
    innovation = jnp.abs(x - old.fast)
    better = BETTER * (old.slow - x) > _noise(old.spread, decay)
    means = bank[: len(weights)]
    values = jnp.stack([x, x, innovation, innovation, better, lasting, lasting])
    means = means + jnp.where(came[None], weights, 0.0) * (values - means)
    rest = [
        n,
        jnp.where(came, x, old.last),
        jnp.where(came & (old.begun == 0), x, old.first),
        jnp.where(came, 1.0, old.begun),
    ]
    return jnp.concatenate([means, jnp.stack(rest)]), ones


def read(
    before: jax.Array,
    bank: jax.Array,
    ones: jax.Array,
    came: jax.Array,
    decay: float = FAST,
) -> Series:
    """All statistics: a `Series` whose entries have a column for each series.

    For white noise of variance 1, n times the covariance of the polynomial means of
    powers p and q tends to (p + 1)(q + 1) / (p + q + 1) as n grows. The drop is divided
    by the first value plus 3 noise, so a first value near 0 does not make it huge.

    Args:
      before: The bank before `extend`.
      bank: The bank after it.
      ones: The second result of `extend`.
      came: bool[2], as given to it.
      decay: As given to it.
    """
    s, old = Bank(*bank), Bank(*before)
    noise, other = _noise(s.spread, decay), estimators.slower(decay)
    fast, slow, *_, fast_fast, slow_slow, fast_slow = jnp.where(ones > 0, ones, 1.0)
    variance = (
        _share(decay, decay) * fast_fast / fast**2
        + _share(other, other) * slow_slow / slow**2
        - 2 * _share(decay, other) * fast_slow / (fast * slow)
    )
    spread = _limit(FAR, FAR) + _limit(NEAR, NEAR) - 2 * _limit(FAR, NEAR)
    errors = jnp.stack(
        [
            noise * jnp.sqrt(jnp.maximum(variance, UNSURE)),
            noise * jnp.sqrt(spread / jnp.maximum(s.seen, 1.0)),
            jnp.abs(s.first) + 3 * noise,
            s.calm,
        ]
    )
    gaps = jnp.stack(
        [
            BETTER * (s.slow - s.fast),
            BETTER * (s.far - s.near),
            BETTER * (s.first - s.fast),
            s.spread,
        ]
    )
    known = (errors > 0) & (s.seen[None] >= _LEAST)
    trend, long_trend, drop, ratio = jnp.where(
        known, gaps / jnp.where(known, errors, 1.0), _UNKNOWN
    )
    return Series(
        arrived=came,
        value=s.last,
        change=jnp.where(came & (old.seen > 0), s.last - old.last, 0.0),
        fast=s.fast,
        slow=s.slow,
        noise=noise,
        trend=trend,
        long_trend=long_trend,
        drop=drop,
        variance_ratio=ratio**2,
        success=jnp.where(s.seen > 1, s.success, 0.5),
        count=s.seen.astype(jnp.int32),
    )


def restart(bank: jax.Array, when: jax.Array) -> jax.Array:
    """Forget the level and the noise where ``when``; keep the first value.

    The noise of a run that diverged is that of its explosion. With it every later loss,
    however high, would be within the noise.
    """
    return jnp.where(_FORGOTTEN & when, 0.0, bank)


def _noise(spread: jax.Array, decay: float) -> jax.Array:
    """Standard deviation of one value, from the mean absolute innovation."""
    gain = _gain(decay)  # the mean's variance is part of an innovation's
    return math.sqrt(math.pi / 2 / (1 + gain)) * spread


def _gain(decay: float) -> float:
    """Variance of an endless exponential mean of noise of variance 1."""
    return (1 - decay) / (1 + decay)


def _share(a: float, b: float) -> float:
    """Covariance of two endless exponential means of noise of variance 1."""
    return (1 - a) * (1 - b) / (1 - a * b)


def _limit(p: float, q: float) -> float:
    """Covariance of two polynomial means of that noise, times n, as n grows."""
    return (p + 1) * (q + 1) / (p + q + 1)
