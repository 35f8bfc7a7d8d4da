"""How the gradient agrees with a step, or with a way: averaged cosines.

The alignment c_t = cos(-g_t, theta_t - theta_{t-1}) asks whether the new gradient still
agrees with the last step: positive while steps are too short, negative when they
overshoot (R. Jacobs, 1988, delta-bar-delta, has it per coordinate; Baydin et al., 2018,
as the hypergradient; here it is one cosine, normalised and with its standard error).
It is taken on a sketch of the last step (`sketch`). The persistence, the averaged
cosine of each step with the one before it, tells what the filter makes of that: without
momentum a step turns with its gradient, with momentum it carries on.

The heading cos(-g_t, theta_t - anchor), see `motion`, asks the same of the way that
many steps have made. It is slower to notice an end, but noise that hides a step's
direction averages out of the way's, and a filter without memory, whose every step is
opposed, has a heading like any other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.sense.estimators import debiased

ALIGNMENT, ALIGNMENT_SLOW, ALIGNMENT_SPREAD = 0.9, 0.98, 0.97


class Cosines(NamedTuple):
    """One packed f32[6]."""

    mean: jax.Array
    slow: jax.Array
    square: jax.Array
    seen: jax.Array
    carry: jax.Array  # of steps, with the ones before them
    carries: jax.Array


def add(
    a: Cosines, cosine: jax.Array, ok: jax.Array
) -> tuple[Cosines, jax.Array, jax.Array]:
    """The statistics with one more cosine, held where there was no step."""
    cosine = jnp.where(ok, cosine, 0.0)
    deviation = cosine - debiased(a.mean, ALIGNMENT, a.seen)
    new = a._replace(
        mean=ALIGNMENT * a.mean + (1 - ALIGNMENT) * cosine,
        slow=ALIGNMENT_SLOW * a.slow + (1 - ALIGNMENT_SLOW) * cosine,
        square=ALIGNMENT_SPREAD * a.square + (1 - ALIGNMENT_SPREAD) * deviation**2,
        seen=a.seen + 1,
    )
    return Cosines(*jnp.where(ok, jnp.stack(new), jnp.stack(a))), cosine, ok


def add_carried(a: Cosines, cosine: jax.Array, ok: jax.Array) -> jax.Array:
    """The series with the cosine of two steps; held where either did not move."""
    new = a._replace(
        carry=ALIGNMENT * a.carry + (1 - ALIGNMENT) * cosine, carries=a.carries + 1
    )
    return jnp.where(ok, jnp.stack(new), jnp.stack(a))


def mean(a: Cosines) -> tuple[jax.Array, jax.Array]:
    """The mean over about the last 10 cosines, and its standard error."""
    return _estimate(a, a.mean, ALIGNMENT)


def slow_mean(a: Cosines) -> tuple[jax.Array, jax.Array]:
    """The mean over about the last 50 cosines, and its standard error."""
    return _estimate(a, a.slow, ALIGNMENT_SLOW)


def persistence(a: Cosines) -> jax.Array:
    """The mean cosine of steps with the ones before them."""
    return debiased(a.carry, ALIGNMENT, a.carries)


def _estimate(a: Cosines, ema: jax.Array, decay: float) -> tuple[jax.Array, jax.Array]:
    """A debiased mean and its standard error, cosines being as good as white.

    The variance of a debiased EMA of n values is at most that of an endless one or of
    a plain mean of n, whichever is larger.
    """
    variance = debiased(a.square, ALIGNMENT_SPREAD, a.seen)
    share = jnp.maximum((1 - decay) / (1 + decay), 1 / jnp.maximum(a.seen, 1.0))
    return debiased(ema, decay, a.seen), jnp.sqrt(variance * share) + 1e-6
