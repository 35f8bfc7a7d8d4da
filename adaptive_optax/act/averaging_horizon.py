"""The averaging horizon of the evaluation average: it shrinks while the average lags.

The mean of about the last ninth of a run is right for a run that has arrived. For a run
that is still under way it is late: with a moving minimum the last parameters can be
four times better. The gradient tells which case it is. Let theta_avg be the average and
theta_lvl the mean of that average itself (Brown's double smoothing). Then

    lag = cos(-g, theta_avg - theta_lvl)

is positive while the average still moves downhill, and so is behind. If the average
only moves about a minimum, the lag is 0, or a little below. (The gradient's noise is
new at every step and averages out. The noise of the parameters does not, so
theta - theta_avg would not work in place of the average's way.) The horizon n follows

    n <- n (1 - .05 clip((lag / error - 1) / 2, 0, 1))    at every step with a lag
    n <- n + 1                                            at every absorbed step

and the next parameters have the weight (p + 1) / (n + p + 1). The lag is averaged over
20 steps, or over those of the last ninth of n if that is more. Only a lag beyond its
error counts, so that noise does not shorten a long average: with few coordinates, half
an error is seen all the time.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees
from adaptive_optax.act import average as averaging
from adaptive_optax.law import Average, Law
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
    """State of the averaging horizon."""

    window_age: jax.Array  # f32[] n, the count that sets the weights
    window_level: Any  # like params, sliced, float32: the mean of the average
    lag_series: jax.Array  # f32[4], see `_Lag`


def init_window(params: Any, fraction: float) -> WindowState:
    """The horizon of an average that has absorbed nothing.

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
    law: Law,
    fraction: float,
) -> tuple[averaging.AverageState, WindowState]:
    """One step of the average, with a horizon that follows the lag.

    Args:
      state: From `init_window` or the step before.
      averages: The average.
      params: As for `averaging.absorb`, like ``healthy`` and ``reset``.
      grads: The gradient at ``params``.
      healthy: bool[].
      reset: bool[].
      restored: bool[]; parameters go back at this step, and the lag is forgotten.
      hold: bool[]; the step was not finite and is ignored.
      law: Its numbers.
      fraction: As given to `init_window`.

    Returns:
      The next average and horizon.
    """
    c = law.average or Average()
    fraction = sketching.fraction_of(grads, fraction)
    seen = sketching.take(grads, fraction)
    way = jax.tree.map(
        _trees.gap, sketching.take(averages.average, fraction), state.window_level
    )
    products = sketching.inner_products(
        [(seen, way), (seen, seen), (way, way)], sketching.scales(grads, seen)
    )
    against, known = sketching.cosines(*products)
    known &= (averages.average_count > 0) & ~hold
    steps = c.every * state.window_age
    lag, z = _extend(_Lag(*state.lag_series), -against, known, steps, c)
    vote = jnp.clip((z - law.hint) / law.clear, 0, 1)
    shrink = jnp.where(known, c.shrink * vote, 0.0)
    age = jnp.where(reset, 0.0, state.window_age * (1 - shrink))

    # Only an average that has absorbed nothing has a count of 0.
    least = jnp.minimum(averages.average_count, 1)
    count = jnp.maximum(jnp.round(age).astype(jnp.int32), least)
    count = jnp.where(reset, 0, count)
    averages = averaging.absorb(
        averages._replace(average_count=count),
        params,
        healthy=healthy,
        reset=reset,
        power=c.power,
        every=c.every,
    )
    taken = averages.average_count > count
    share = jnp.where(taken, polynomial_weight(c.power, count + 1), 0.0)
    first = taken & (count == 0)  # then exactly the average: no way yet
    level = jax.tree.map(
        lambda mean, now: jnp.where(first, now, _trees.toward(mean, now, share)),
        state.window_level,
        sketching.take(averages.average, fraction),
    )
    return averages, WindowState(
        window_age=jnp.minimum(age + taken, averaging.LONGEST),
        window_level=level,
        lag_series=jnp.where(restored, 0.0, jnp.stack(lag)),
    )


def _extend(
    s: _Lag, cosine: jax.Array, ok: jax.Array, steps: jax.Array, c: Average
) -> tuple[_Lag, jax.Array]:
    """Add a cosine where ``ok``; also returns the lag in its standard errors."""
    weight = jnp.minimum(c.shrink, polynomial_weight(c.power, steps + 1))
    ones = s.ones + weight * (1 - s.ones)
    share = jnp.where(ones > 0, weight / jnp.where(ones > 0, ones, 1.0), 0.0)
    new = _Lag(
        mean=s.mean + share * (cosine - s.mean),
        square=s.square + share * ((cosine - s.mean) ** 2 - s.square),
        ones=ones,
        seen=s.seen + 1,
    )
    new = _Lag(*jnp.where(ok, jnp.stack(new), jnp.stack(s)))
    error = standard_error(new.square, new.seen, weight / (2 - weight))
    return new, new.mean / error
