"""The sensor of the loop: raw loss, reward and gradient -> `Signals`.

A series (loss or reward) keeps a fast and a slow exponential average and the mean
absolute innovation s = E|x - fast|. For Gaussian noise s sqrt(pi/2) is the standard
deviation; unlike the root of a mean square it neither overflows nor underflows at any
scale of the loss, and one outlier moves it once, not squared. The trend is

    z = (slow - fast) / (noise * sqrt(Var[slow - fast] / noise^2)),

whose denominator is exact for white noise at every age n, so z is standard normal on a
flat loss from the second value on, whatever the loss's sign, scale and offset.

The progress is the same z between two means whose horizons grow with the run, of
powers 2 and 8 as in `averaging`: about its last third and its last ninth. A fixed
horizon takes a slow descent for a plateau; this one asks whether the run still gets
anywhere at its own age.

The alignment c_t = cos(-g_t, theta_t - theta_{t-1}) asks whether the new gradient still
agrees with the last step: positive while steps are too short, negative when they
overshoot (R. Jacobs, 1988, delta-bar-delta, has it per coordinate; Baydin et al., 2018,
as the hypergradient; here it is one cosine, normalised and with its standard error).
It is taken on a sketch of the last step (`sketch`). The persistence, the averaged
cosine of each step with the one before it, tells what the filter makes of that: without
momentum a step turns with its gradient, with momentum it carries on.

The heading cos(-g_t, theta_t - anchor), the anchor being the mean of about the last
third of the way, asks the same of the way that many steps have made. It is slower to
notice an end, but noise that hides a step's direction averages out of the way's, and a
filter without memory, whose every step is opposed, has a heading like any other.

The travel max|theta - theta_0| / sqrt(sum |g|^2) is the step size of Distance over
Gradients (Ivgi, Hinder, Carmon, 2023, equation 1).

A non-finite measurement changes nothing here but its counter.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees
from adaptive_optax import sketch as sketching
from adaptive_optax._types import Signals

FAST, SLOW = 0.9, 0.98  # EMAs of a series
FAR, NEAR = 2.0, 8.0  # powers of its polynomial means: about its last 1/3 and 1/9
SPREAD, CALM = 0.95, 0.995  # EMAs of its innovations, now and in the long run
SUCCESS = 0.95
GRADIENT = 0.98
ALIGNMENT, ALIGNMENT_SLOW, ALIGNMENT_SPREAD = 0.9, 0.98, 0.97
LARGEST = 1e37  # beyond it differences leave float32: treated as non-finite


class _Series(NamedTuple):
    """One packed f32[12]: a carry of few arrays is what a small step can afford."""

    last: jax.Array
    fast: jax.Array  # EMAs are biased here; `_debiased` divides by the EMA of ones
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


class _Gradient(NamedTuple):
    """One packed f32[4]."""

    log_norm: jax.Array
    log_spread: jax.Array
    norms_seen: jax.Array
    total: jax.Array  # sum of squared norms


class _Alignment(NamedTuple):
    """One packed f32[6]."""

    mean: jax.Array
    slow: jax.Array
    square: jax.Array
    seen: jax.Array
    carry: jax.Array  # of steps, with the ones before them
    carries: jax.Array


class SignalsState(NamedTuple):
    """State of the sensor."""

    signal_count: jax.Array  # i32[] steps
    loss_series: jax.Array  # f32[12], see `_Series`
    reward_series: jax.Array  # f32[12], see `_Series`
    gradient_series: jax.Array  # f32[4], see `_Gradient`
    alignment_series: jax.Array  # f32[6], see `_Alignment`
    heading_series: jax.Array  # f32[6], the same of the heading
    step_sketch: Any  # like params, sliced, bfloat16: the last step
    travel_sketch: Any  # like params, sliced, float32: theta - theta_0
    anchor_sketch: Any  # the same, float32: mean of theta - theta_0
    anchor_count: jax.Array  # f32[] steps in it since the start or a restore
    travel_max: jax.Array  # f32[] largest distance from the start
    nonfinite_values: jax.Array  # i32[] losses that were not finite
    nonfinite_rewards: jax.Array  # i32[] rewards that were not finite
    nonfinite_gradients: jax.Array  # i32[] steps with a gradient that was not finite


class GradientNorms(NamedTuple):
    """L2 norms of one gradient."""

    leaf_norms: jax.Array  # f32[n], of every leaf, or of every layer of a stacked one
    square: jax.Array  # f32[] of the global norm
    finite: jax.Array  # bool[] every entry is finite, and so is the sum of squares


def init_signals(params: Any, fraction: float) -> SignalsState:
    """The sensor before the first step.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      fraction: Share of the coordinates that the sketch keeps, in (0, 1].
    """
    fraction = sketching.fraction_of(params, fraction)
    return SignalsState(
        signal_count=jnp.zeros((), jnp.int32),
        loss_series=jnp.zeros(len(_Series._fields), jnp.float32),
        reward_series=jnp.zeros(len(_Series._fields), jnp.float32),
        gradient_series=jnp.zeros(len(_Gradient._fields), jnp.float32),
        alignment_series=jnp.zeros(len(_Alignment._fields), jnp.float32),
        heading_series=jnp.zeros(len(_Alignment._fields), jnp.float32),
        step_sketch=sketching.zeros(params, fraction, jnp.bfloat16),
        travel_sketch=sketching.zeros(params, fraction, jnp.float32),
        anchor_sketch=sketching.zeros(params, fraction, jnp.float32),
        anchor_count=jnp.zeros((), jnp.float32),
        travel_max=jnp.zeros((), jnp.float32),
        nonfinite_values=jnp.zeros((), jnp.int32),
        nonfinite_rewards=jnp.zeros((), jnp.int32),
        nonfinite_gradients=jnp.zeros((), jnp.int32),
    )


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


def measure(
    state: SignalsState,
    grads: Any,
    norms: GradientNorms,
    *,
    value: Any = None,
    reward: Any = None,
    fraction: float,
) -> tuple[Signals, SignalsState]:
    """Read one step's feedback.

    Args:
      state: The sensor.
      grads: Gradients, finite (a non-finite one arrives here as zeros).
      norms: Their `gradient_norms`, with ``finite`` False where they were not finite.
      value: Scalar loss of any dtype, or None.
      reward: Scalar reward, higher is better, or None.
      fraction: As given to `init_signals`.

    Returns:
      The signals, with what the loop itself does (`Signals.coordinate` and below) at
      rest, and the new state.
    """
    value, has_value, bad_value = _feedback(value)
    reward, has_reward, bad_reward = _feedback(reward)
    loss_before = _Series(*state.loss_series)
    reward_before = _Series(*state.reward_series)
    loss = _extend(loss_before, value, has_value, falls=True)
    gain = _extend(reward_before, reward, has_reward, falls=False)

    gradient, grad_norm_z = _gradient(_Gradient(*state.gradient_series), norms)
    fraction = sketching.fraction_of(grads, fraction)
    seen = sketching.take(grads, fraction)
    scales = sketching.scales(grads, seen)

    def align(series: jax.Array, step: Any) -> tuple[_Alignment, jax.Array, jax.Array]:
        against, known = sketching.cosine(seen, step, scales)
        return _align(_Alignment(*series), -against, norms.finite & known)

    alignment, cosine, has_alignment = align(state.alignment_series, state.step_sketch)
    way = jax.tree.map(jnp.subtract, state.travel_sketch, state.anchor_sketch)
    heading, _, _ = align(state.heading_series, way)
    mean, sem = _estimate(alignment, alignment.mean, ALIGNMENT)
    slow, slow_sem = _estimate(alignment, alignment.slow, ALIGNMENT_SLOW)
    ahead, ahead_sem = _estimate(heading, heading.slow, ALIGNMENT_SLOW)

    signals = Signals(
        count=state.signal_count,
        has_value=has_value,
        value=loss.last,
        value_change=jnp.where(
            has_value & (loss_before.seen > 0), loss.last - loss_before.last, 0.0
        ),
        loss_fast=_debiased(loss.fast, FAST, loss.seen),
        loss_slow=_debiased(loss.slow, SLOW, loss.seen),
        loss_noise=_noise(loss),
        loss_trend=_trend(loss),
        loss_progress=_progress(loss),
        loss_gain=_gain(loss),
        loss_variance=_relative_variance(loss),
        success=_success(loss),
        loss_count=loss.seen.astype(jnp.int32),
        has_reward=has_reward,
        reward=gain.last,
        reward_change=jnp.where(
            has_reward & (reward_before.seen > 0), gain.last - reward_before.last, 0.0
        ),
        reward_trend=-_trend(gain),
        has_gradient=norms.finite,
        grad_norm=jnp.sqrt(jnp.where(norms.finite, norms.square, 0.0)),
        grad_norm_z=grad_norm_z,
        has_alignment=has_alignment,
        alignment=cosine,
        alignment_mean=mean,
        alignment_sem=sem,
        alignment_slow=slow,
        alignment_slow_sem=slow_sem,
        alignment_count=alignment.seen.astype(jnp.int32),
        persistence=_debiased(alignment.carry, ALIGNMENT, alignment.carries),
        heading=ahead,
        heading_sem=ahead_sem,
        travel=state.travel_max / jnp.sqrt(gradient.total + 1e-30),
        coordinate=jnp.zeros((), jnp.float32),
        trusted=jnp.zeros((), jnp.float32),
        ceiling=jnp.full((), jnp.inf, jnp.float32),
        warming=jnp.zeros((), bool),
        failures=jnp.zeros((), jnp.int32),
        restored=jnp.zeros((), bool),
    )
    return signals, state._replace(
        signal_count=_trees.next_count(state.signal_count),
        loss_series=jnp.stack(loss),
        reward_series=jnp.stack(gain),
        gradient_series=jnp.stack(gradient),
        alignment_series=jnp.stack(alignment),
        heading_series=jnp.stack(heading),
        nonfinite_values=state.nonfinite_values + bad_value,
        nonfinite_rewards=state.nonfinite_rewards + bad_reward,
        nonfinite_gradients=state.nonfinite_gradients + ~norms.finite,
    )


def rewarded(state: SignalsState) -> jax.Array:
    """Whether there has been a reward, bool[]."""
    return _Series(*state.reward_series).begun > 0


def by_reward(signals: Signals, state: SignalsState) -> Signals:
    """The same signals with the fall of the negative reward for that of the loss.

    The loss of a policy gradient is a surrogate whose level says nothing of success, so
    whoever judges a run that has had a reward judges the reward, and nothing at a step
    without one.

    Args:
      signals: From `measure`.
      state: The state that came with them.

    Returns:
      The signals as they are where there has been no reward.
    """
    reward = _Series(*state.reward_series)
    heard = signals._replace(
        has_value=signals.has_reward,
        value=-signals.reward,
        value_change=-signals.reward_change,
        loss_fast=-_debiased(reward.fast, FAST, reward.seen),
        loss_slow=-_debiased(reward.slow, SLOW, reward.seen),
        loss_noise=_noise(reward),
        loss_trend=signals.reward_trend,
        loss_progress=-_progress(reward),
        loss_gain=-_gain(reward),
        loss_count=reward.seen.astype(jnp.int32),
        loss_variance=_relative_variance(reward),
        success=_success(reward),
    )
    begun = rewarded(state)
    return jax.tree.map(lambda r, s: jnp.where(begun, r, s), heard, signals)


def missed(after: SignalsState, before: SignalsState) -> jax.Array:
    """Whether anything that came with the last step was not finite, bool[]."""
    return (
        (after.nonfinite_values > before.nonfinite_values)
        | (after.nonfinite_rewards > before.nonfinite_rewards)
        | (after.nonfinite_gradients > before.nonfinite_gradients)
    )


def record_step(
    state: SignalsState, updates: Any, restored: jax.Array, *, fraction: float
) -> SignalsState:
    """Remember the step that was taken, for the next alignment and for the travel.

    Args:
      state: The sensor.
      updates: What is added to the parameters.
      restored: bool[]; a restore is no step, and the statistics start again.
      fraction: As given to `init_signals`.
    """
    fraction = sketching.fraction_of(updates, fraction)
    step = jax.tree.map(
        lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0.0),
        sketching.take(updates, fraction),
    )
    travel = jax.tree.map(jnp.add, state.travel_sketch, step)
    moved = sum((jnp.any(leaf != 0) for leaf in jax.tree.leaves(step)), False)
    count = jnp.where(restored, 0.0, state.anchor_count + moved)
    share = jnp.where(moved, (FAR + 1) / (count + FAR + 1), 0.0)
    anchor = jax.tree.map(  # exactly the place at a restart: there is no way yet
        lambda mean, place: jnp.where(restored, place, mean + share * (place - mean)),
        state.anchor_sketch,
        travel,
    )
    scales = sketching.scales(updates, step)
    squares = [
        scale * jnp.sum(leaf * leaf)
        for scale, leaf in zip(scales, jax.tree.leaves(travel), strict=True)
    ]
    distance = jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))
    again = jnp.where(restored, 0.0, 1.0)
    carried = sketching.cosine(step, state.step_sketch, scales)
    alignment = _carry(_Alignment(*state.alignment_series), *carried)
    loss, reward = (
        _restart(_Series(*series), again)
        for series in (state.loss_series, state.reward_series)
    )
    return state._replace(
        loss_series=loss,
        reward_series=reward,
        alignment_series=alignment * again,
        heading_series=state.heading_series * again,
        step_sketch=jax.tree.map(
            lambda leaf: jnp.where(restored, 0.0, leaf).astype(jnp.bfloat16), step
        ),
        travel_sketch=travel,
        anchor_sketch=anchor,
        anchor_count=count,
        travel_max=jnp.maximum(
            state.travel_max, jnp.where(jnp.isfinite(distance), distance, 0.0)
        ),
    )


def _feedback(x: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A scalar, whether it is usable, and whether it came but is not."""
    if x is None:
        return jnp.zeros((), jnp.float32), jnp.zeros((), bool), jnp.zeros((), bool)
    x = jnp.asarray(x).astype(jnp.float32)
    usable = jnp.abs(x) < LARGEST  # False for NaN
    return jnp.where(usable, x, 0.0), usable, ~usable


def _extend(s: _Series, x: jax.Array, ok: jax.Array, *, falls: bool) -> _Series:
    """One more value; where ``ok`` is False, the series as it was."""
    level = jnp.where(s.seen > 0, _debiased(s.fast, FAST, s.seen), x)
    lagged = jnp.where(s.seen > 0, _debiased(s.slow, SLOW, s.seen), x)
    innovation = jnp.abs(x - level)
    better = lagged - x if falls else x - lagged
    counts = jnp.where(s.seen > 0, 1.0, 0.0)  # a first value has no innovation
    new = _Series(
        last=x,
        fast=FAST * s.fast + (1 - FAST) * x,
        slow=SLOW * s.slow + (1 - SLOW) * x,
        spread=s.spread + counts * (1 - SPREAD) * (innovation - s.spread),
        calm=s.calm + counts * (1 - CALM) * (innovation - s.calm),
        success=s.success
        + counts
        * (1 - SUCCESS)
        * (jnp.where(better > _noise(s), 1.0, 0.0) - s.success),
        seen=s.seen + 1,
        innovations=s.innovations + counts,
        far=s.far + (FAR + 1) / (s.seen + FAR + 1) * (x - s.far),
        near=s.near + (NEAR + 1) / (s.seen + NEAR + 1) * (x - s.near),
        first=jnp.where(s.begun > 0, s.first, x),
        begun=jnp.ones_like(s.begun),
    )
    packed = jnp.where(ok, jnp.stack(new), jnp.stack(s))
    return _Series(*packed)


def _restart(s: _Series, again: jax.Array) -> jax.Array:
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


def _debiased(ema: jax.Array, decay: float, n: jax.Array) -> jax.Array:
    """An EMA from zero over the EMA of as many ones; 0 before the first value."""
    return jnp.where(n > 0, ema / jnp.where(n > 0, _ones(decay, n), 1.0), 0.0)


def _ones(decay: float, n: jax.Array) -> jax.Array:
    return -jnp.expm1(n * math.log(decay))


def _noise(s: _Series) -> jax.Array:
    """Standard deviation of one value, from the mean absolute innovation."""
    spread = _debiased(s.spread, SPREAD, s.innovations)
    gain = (1 - FAST) / (1 + FAST)  # an innovation also has the variance of the EMA
    return math.sqrt(math.pi / 2 / (1 + gain)) * spread


def _trend(s: _Series) -> jax.Array:
    """(slow - fast) over its standard error; 0 until there are two values."""
    n = jnp.maximum(s.seen, 2.0)
    weight = {decay: _ones(decay, n) for decay in (FAST, SLOW)}

    def covariance(a: float, b: float) -> jax.Array:  # of two debiased EMAs, noise 1
        share = (1 - a) * (1 - b) / (1 - a * b)
        return share * _ones(a * b, n) / (weight[a] * weight[b])

    variance = (
        covariance(FAST, FAST) + covariance(SLOW, SLOW) - 2 * covariance(FAST, SLOW)
    )
    error = _noise(s) * jnp.sqrt(jnp.maximum(variance, 1e-12))
    gap = s.slow / weight[SLOW] - s.fast / weight[FAST]
    known = (s.seen >= 2) & (error > 0)
    return jnp.where(known, gap / jnp.where(known, error, 1.0), 0.0)


def _progress(s: _Series) -> jax.Array:
    """(far - near) over its standard error; 0 until there are two values.

    n times the covariance of the polynomial means of powers p and q is, for white noise
    of variance 1, (p + 1)(q + 1) / (p + q + 1) as n grows.
    """
    n = jnp.maximum(s.seen, 1.0)

    def covariance(p: float, q: float) -> float:
        return (p + 1) * (q + 1) / (p + q + 1)

    spread = covariance(FAR, FAR) + covariance(NEAR, NEAR) - 2 * covariance(FAR, NEAR)
    error = _noise(s) * jnp.sqrt(spread / n)
    known = (s.seen >= 2) & (error > 0)
    return jnp.where(known, (s.far - s.near) / jnp.where(known, error, 1.0), 0.0)


def _gain(s: _Series) -> jax.Array:
    """(first - fast) / (|first| + 3 noise); 0 until there is a value.

    The noise keeps a first value that is near 0, or one by chance far from the rest,
    from making much of little.
    """
    size = jnp.abs(s.first) + 3 * _noise(s)
    known = (s.seen > 0) & (size > 0)
    gap = s.first - _debiased(s.fast, FAST, s.seen)
    return jnp.where(known, gap / jnp.where(known, size, 1.0), 0.0)


def _relative_variance(s: _Series) -> jax.Array:
    """Noise variance over its own long run, 1 while there is nothing to compare."""
    spread = _debiased(s.spread, SPREAD, s.innovations)
    calm = _debiased(s.calm, CALM, s.innovations)
    known = calm > 0
    return jnp.where(known, (spread / jnp.where(known, calm, 1.0)) ** 2, 1.0)


def _success(s: _Series) -> jax.Array:
    """Debiased share of improvements; 1/2 before the first innovation."""
    share = _debiased(s.success, SUCCESS, s.innovations)
    return jnp.where(s.innovations > 0, share, 0.5)


def _gradient(g: _Gradient, norms: GradientNorms) -> tuple[_Gradient, jax.Array]:
    """z-score of the log norm among those before it; then extend the statistics."""
    ok = norms.finite & (norms.square > 0)
    log_norm = 0.5 * jnp.log(jnp.where(ok, norms.square, 1.0))
    mean = _debiased(g.log_norm, GRADIENT, g.norms_seen)
    # The spread starts at the second norm, so it is one value younger.
    age = jnp.maximum(g.norms_seen - 1, 0.0)
    spread = _debiased(g.log_spread, GRADIENT, age) * math.sqrt(math.pi / 2)
    known = ok & (age > 0) & (spread > 0)
    z = jnp.where(known, (log_norm - mean) / jnp.where(known, spread, 1.0), 0.0)
    counts = jnp.where(g.norms_seen > 0, 1.0, 0.0)
    deviation = jnp.abs(log_norm - mean)
    new = _Gradient(
        log_norm=GRADIENT * g.log_norm + (1 - GRADIENT) * log_norm,
        log_spread=g.log_spread + counts * (1 - GRADIENT) * (deviation - g.log_spread),
        norms_seen=g.norms_seen + 1,
        total=jnp.minimum(g.total + jnp.where(ok, norms.square, 0.0), LARGEST),
    )
    return _Gradient(*jnp.where(ok, jnp.stack(new), jnp.stack(g))), z


def _align(
    a: _Alignment, cosine: jax.Array, ok: jax.Array
) -> tuple[_Alignment, jax.Array, jax.Array]:
    """The statistics with one more cosine, held where there was no step."""
    cosine = jnp.where(ok, cosine, 0.0)
    deviation = cosine - _debiased(a.mean, ALIGNMENT, a.seen)
    new = a._replace(
        mean=ALIGNMENT * a.mean + (1 - ALIGNMENT) * cosine,
        slow=ALIGNMENT_SLOW * a.slow + (1 - ALIGNMENT_SLOW) * cosine,
        square=ALIGNMENT_SPREAD * a.square + (1 - ALIGNMENT_SPREAD) * deviation**2,
        seen=a.seen + 1,
    )
    return _Alignment(*jnp.where(ok, jnp.stack(new), jnp.stack(a))), cosine, ok


def _carry(a: _Alignment, cosine: jax.Array, ok: jax.Array) -> jax.Array:
    """The series with the cosine of two steps; held where either did not move."""
    new = a._replace(
        carry=ALIGNMENT * a.carry + (1 - ALIGNMENT) * cosine, carries=a.carries + 1
    )
    return jnp.where(ok, jnp.stack(new), jnp.stack(a))


def _estimate(
    a: _Alignment, ema: jax.Array, decay: float
) -> tuple[jax.Array, jax.Array]:
    """A debiased mean and its standard error, cosines being as good as white.

    The variance of a debiased EMA of n values is at most that of an endless one or of
    a plain mean of n, whichever is larger.
    """
    variance = _debiased(a.square, ALIGNMENT_SPREAD, a.seen)
    share = jnp.maximum((1 - decay) / (1 + decay), 1 / jnp.maximum(a.seen, 1.0))
    return _debiased(ema, decay, a.seen), jnp.sqrt(variance * share) + 1e-6
