"""One scalar over time: the loss, or the reward.

A series keeps a fast and a slow exponential average and the mean absolute innovation
s = E|x - fast|. For Gaussian noise s sqrt(pi/2) is the standard deviation; unlike the
root of a mean square it neither overflows nor underflows at any scale of the loss, and
one outlier moves it once, not squared. The trend is

    z = (slow - fast) / (noise * sqrt(Var[slow - fast] / noise^2)),

whose denominator is exact for white noise at every age n, so z is standard normal on a
flat loss from the second value on, whatever the loss's sign, scale and offset.

The progress is the same z between two means whose horizons grow with the run, of
powers 2 and 8 as in `act.average`: about its last third and its last ninth. A fixed
horizon takes a slow descent for a plateau; this one asks whether the run still gets
anywhere at its own age.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.sense.estimators import debiased, ones

FAST, SLOW = 0.9, 0.98  # EMAs of a series
FAR, NEAR = 2.0, 8.0  # powers of its polynomial means: about its last 1/3 and 1/9
SPREAD, CALM = 0.95, 0.995  # EMAs of its innovations, now and in the long run
SUCCESS = 0.95


class Series(NamedTuple):
    """One packed f32[12]: a carry of few arrays is what a small step can afford."""

    last: jax.Array
    fast: jax.Array  # EMAs are biased here; `debiased` divides by the EMA of ones
    slow: jax.Array
    spread: jax.Array
    calm: jax.Array
    success: jax.Array
    seen: jax.Array  # values since the start or a restore
    innovations: jax.Array  # values behind spread and calm
    far: jax.Array  # means whose horizon grows with the run
    near: jax.Array
    first: jax.Array  # kept over a restore
    begun: jax.Array  # 1 once there is a first


class Reading(NamedTuple):
    """What a series says. Scalars; for a loss, positive means better."""

    fast: jax.Array  # debiased
    slow: jax.Array
    noise: jax.Array  # standard deviation of one value
    trend: jax.Array  # z = (slow - fast) / its standard error
    progress: jax.Array  # the same z over horizons that grow with the run
    fall: jax.Array  # share of the first value by which it has fallen
    variance: jax.Array  # of the noise, over its own long run
    success: jax.Array  # share of recent values that were better beyond noise
    count: jax.Array  # i32[] values since the start or a restore


def read(s: Series) -> Reading:
    """Everything that the series says."""
    return Reading(
        fast=debiased(s.fast, FAST, s.seen),
        slow=debiased(s.slow, SLOW, s.seen),
        noise=noise(s),
        trend=trend(s),
        progress=progress(s),
        fall=relative_fall(s),
        variance=relative_variance(s),
        success=success(s),
        count=s.seen.astype(jnp.int32),
    )


def change(before: Series, now: Series, came: jax.Array) -> jax.Array:
    """The last value less the one before it; 0 where there are not two."""
    return jnp.where(came & (before.seen > 0), now.last - before.last, 0.0)


def extend(s: Series, x: jax.Array, ok: jax.Array, *, falls: bool) -> Series:
    """One more value; where ``ok`` is False, the series as it was."""
    level = jnp.where(s.seen > 0, debiased(s.fast, FAST, s.seen), x)
    lagged = jnp.where(s.seen > 0, debiased(s.slow, SLOW, s.seen), x)
    innovation = jnp.abs(x - level)
    better = lagged - x if falls else x - lagged
    counts = jnp.where(s.seen > 0, 1.0, 0.0)  # a first value has no innovation
    new = Series(
        last=x,
        fast=FAST * s.fast + (1 - FAST) * x,
        slow=SLOW * s.slow + (1 - SLOW) * x,
        spread=s.spread + counts * (1 - SPREAD) * (innovation - s.spread),
        calm=s.calm + counts * (1 - CALM) * (innovation - s.calm),
        success=s.success
        + counts * (1 - SUCCESS) * (jnp.where(better > noise(s), 1.0, 0.0) - s.success),
        seen=s.seen + 1,
        innovations=s.innovations + counts,
        far=s.far + (FAR + 1) / (s.seen + FAR + 1) * (x - s.far),
        near=s.near + (NEAR + 1) / (s.seen + NEAR + 1) * (x - s.near),
        first=jnp.where(s.begun > 0, s.first, x),
        begun=jnp.ones_like(s.begun),
    )
    packed = jnp.where(ok, jnp.stack(new), jnp.stack(s))
    return Series(*packed)


def restart(s: Series, again: jax.Array) -> jax.Array:
    """Forget the level and the noise (``again`` = 0), keep the first.

    The noise of a run that has diverged is that of its explosion: with it every later
    loss, however high, would be within the noise.
    """
    return jnp.stack(
        s._replace(
            fast=s.fast * again,
            slow=s.slow * again,
            spread=s.spread * again,
            calm=s.calm * again,
            success=s.success * again,
            seen=s.seen * again,
            innovations=s.innovations * again,
            far=s.far * again,
            near=s.near * again,
        )
    )


def noise(s: Series) -> jax.Array:
    """Standard deviation of one value, from the mean absolute innovation."""
    spread = debiased(s.spread, SPREAD, s.innovations)
    gain = (1 - FAST) / (1 + FAST)  # an innovation also has the variance of the EMA
    return math.sqrt(math.pi / 2 / (1 + gain)) * spread


def trend(s: Series) -> jax.Array:
    """(slow - fast) over its standard error; 0 until there are two values."""
    n = jnp.maximum(s.seen, 2.0)
    weight = {decay: ones(decay, n) for decay in (FAST, SLOW)}

    def covariance(a: float, b: float) -> jax.Array:  # of two debiased EMAs, noise 1
        share = (1 - a) * (1 - b) / (1 - a * b)
        return share * ones(a * b, n) / (weight[a] * weight[b])

    variance = (
        covariance(FAST, FAST) + covariance(SLOW, SLOW) - 2 * covariance(FAST, SLOW)
    )
    error = noise(s) * jnp.sqrt(jnp.maximum(variance, 1e-12))
    gap = s.slow / weight[SLOW] - s.fast / weight[FAST]
    known = (s.seen >= 2) & (error > 0)
    return jnp.where(known, gap / jnp.where(known, error, 1.0), 0.0)


def progress(s: Series) -> jax.Array:
    """(far - near) over its standard error; 0 until there are two values.

    n times the covariance of the polynomial means of powers p and q is, for white noise
    of variance 1, (p + 1)(q + 1) / (p + q + 1) as n grows.
    """
    n = jnp.maximum(s.seen, 1.0)

    def covariance(p: float, q: float) -> float:
        return (p + 1) * (q + 1) / (p + q + 1)

    spread = covariance(FAR, FAR) + covariance(NEAR, NEAR) - 2 * covariance(FAR, NEAR)
    error = noise(s) * jnp.sqrt(spread / n)
    known = (s.seen >= 2) & (error > 0)
    return jnp.where(known, (s.far - s.near) / jnp.where(known, error, 1.0), 0.0)


def relative_fall(s: Series) -> jax.Array:
    """(first - fast) / (|first| + 3 noise); 0 until there is a value.

    The noise keeps a first value that is near 0, or one by chance far from the rest,
    from making much of little.
    """
    size = jnp.abs(s.first) + 3 * noise(s)
    known = (s.seen > 0) & (size > 0)
    gap = s.first - debiased(s.fast, FAST, s.seen)
    return jnp.where(known, gap / jnp.where(known, size, 1.0), 0.0)


def relative_variance(s: Series) -> jax.Array:
    """Noise variance over its own long run, 1 while there is nothing to compare."""
    spread = debiased(s.spread, SPREAD, s.innovations)
    calm = debiased(s.calm, CALM, s.innovations)
    known = calm > 0
    return jnp.where(known, (spread / jnp.where(known, calm, 1.0)) ** 2, 1.0)


def success(s: Series) -> jax.Array:
    """Debiased share of improvements; 1/2 before the first innovation."""
    share = debiased(s.success, SUCCESS, s.innovations)
    return jnp.where(s.innovations > 0, share, 0.5)
