"""How far back the evaluation average reaches: no further than it pays.

The mean of about the last ninth of a run is right for a run that has arrived, and late
for one that is still under way: with a moving minimum the last parameters can be four
times better. Which of the two it is the gradient knows. With the average theta_avg and
the mean theta_lvl of that average itself (Brown's double smoothing),

    lag = cos(-g, theta_avg - theta_lvl)

is positive where the average still travels downhill, and so is behind. Where it only
wavers about a minimum it has no way to go and the lag is 0, or a little below. (The
gradient's own noise is fresh at every step and averages out. That of the parameters is
not, which is why theta - theta_avg would not do in place of the average's way.) Then

    n <- n (1 - .05 clip((lag / error - 1) / 2, 0, 1))    at every step that tells
    n <- n + 1                                            at every absorbed one

is the count by which the next parameters are weighted, (p + 1) / (n + p + 1). The lag
is averaged over 50 steps, or over those of the last ninth of n where that is more, and
counts beyond its error only, so that a long average is not given up for noise: of a few
coordinates half an error is seen all the time.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.act import average as averaging
from adaptive_optax.law import Average
from adaptive_optax.sense import sketch as sketching
from adaptive_optax.sense.cosines import standard_error
from adaptive_optax.sense.estimators import polynomial_weight


class _Lag(NamedTuple):
    """One packed f32[4]."""

    mean: jax.Array
    square: jax.Array  # mean squared deviation from the mean before
    ones: jax.Array  # the same mean of ones, from zero
    seen: jax.Array


class WindowState(NamedTuple):
    """State of the average's window."""

    window_age: jax.Array  # f32[] n, the count that weights go by
    window_level: Any  # like params, sliced, float32: the mean of the average
    lag_series: jax.Array  # f32[4], see `_Lag`


def init_window(params: Any, fraction: float) -> WindowState:
    """The window of an average that has absorbed nothing.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      fraction: Share of the coordinates that the sketch keeps, in (0, 1].
    """
    fraction = sketching.fraction_of(params, fraction)
    return WindowState(
        window_age=jnp.zeros((), jnp.float32),
        window_level=sketching.zeros(params, fraction, jnp.float32),
        lag_series=jnp.zeros(len(_Lag._fields), jnp.float32),
    )


def absorb(
    state: WindowState,
    averages: averaging.AverageState,
    params: Any,
    grads: Any,
    *,
    healthy: jax.Array,
    reset: jax.Array,
    restored: jax.Array,
    hold: jax.Array,
    law: Average,
    fraction: float,
) -> tuple[averaging.AverageState, WindowState]:
    """One step of the average, within a window that follows the lag.

    Args:
      state: From `init_window` or the step before.
      averages: The average.
      params: As are the next three, for `averaging.absorb`.
      grads: The gradient at ``params``.
      healthy: bool[].
      reset: bool[].
      restored: bool[]; parameters go back at this step, and the lag is forgotten.
      hold: bool[]; something was not finite at this step, which tells nothing.
      law: Numbers of the average.
      fraction: As given to `init_window`.

    Returns:
      The next average and window.
    """
    fraction = sketching.fraction_of(grads, fraction)
    seen = sketching.take(grads, fraction)
    way = jax.tree.map(
        jnp.subtract, sketching.take(averages.average, fraction), state.window_level
    )
    products = sketching.inner_products(
        [(seen, way), (seen, seen), (way, way)], sketching.scales(grads, seen)
    )
    against, known = sketching.cosines(*products)
    known &= (averages.average_count > 0) & ~hold
    steps = law.every * state.window_age
    lag, z = _extend(_Lag(*state.lag_series), -against, known, steps, law)
    vote = jnp.clip((z - law.evidence) / law.full_vote, 0, 1)
    shrink = jnp.where(known, law.shrink * vote, 0.0)
    age = jnp.where(reset, 0.0, state.window_age * (1 - shrink))

    # A count of 0 is that of an average that has absorbed nothing.
    least = jnp.minimum(averages.average_count, 1)
    count = jnp.maximum(jnp.round(age).astype(jnp.int32), least)
    count = jnp.where(reset, 0, count)
    averages = averaging.absorb(
        averages._replace(average_count=count),
        params,
        healthy=healthy,
        reset=reset,
        power=law.power,
        every=law.every,
    )
    taken = averages.average_count > count
    share = jnp.where(taken, polynomial_weight(law.power, count + 1), 0.0)
    first = taken & (count == 0)  # exactly: there is no way yet
    level = jax.tree.map(
        lambda mean, now: jnp.where(first, now, mean + share * (now - mean)),
        state.window_level,
        sketching.take(averages.average, fraction),
    )
    return averages, WindowState(
        window_age=age + taken,
        window_level=level,
        lag_series=jnp.where(restored, 0.0, jnp.stack(lag)),
    )


def _extend(
    s: _Lag, cosine: jax.Array, ok: jax.Array, steps: jax.Array, law: Average
) -> tuple[_Lag, jax.Array]:
    """One more cosine, and the lag in its standard errors; held where not ``ok``."""
    weight = jnp.minimum(law.memory, polynomial_weight(law.power, steps + 1))
    ones = s.ones + weight * (1 - s.ones)
    share = weight / ones
    new = _Lag(
        mean=s.mean + share * (cosine - s.mean),
        square=s.square + share * ((cosine - s.mean) ** 2 - s.square),
        ones=ones,
        seen=s.seen + 1,
    )
    new = _Lag(*jnp.where(ok, jnp.stack(new), jnp.stack(s)))
    error = standard_error(new.square, new.seen, weight / (2 - weight))
    return new, new.mean / error
