"""The sensor of the loop: raw loss, reward and gradient -> `Signals`.

A non-finite measurement changes nothing here but its counter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees
from adaptive_optax._types import Signals
from adaptive_optax.sense import cosines, motion, series
from adaptive_optax.sense import sketch as sketching
from adaptive_optax.sense.cosines import Cosines
from adaptive_optax.sense.gradient import (
    LARGEST,
    Gradient,
    GradientNorms,
    gradient_norms,
    observe,
)
from adaptive_optax.sense.series import Series

__all__ = ["GradientNorms", "gradient_norms"]


class SignalsState(NamedTuple):
    """State of the sensor."""

    signal_count: jax.Array  # i32[] steps
    loss_series: jax.Array  # f32[12], see `Series`
    reward_series: jax.Array  # f32[12], see `Series`
    gradient_series: jax.Array  # f32[4], see `Gradient`
    alignment_series: jax.Array  # f32[6], see `Cosines`
    heading_series: jax.Array  # f32[6], the same of the heading
    way: motion.MotionState
    nonfinite_values: jax.Array  # i32[] losses that were not finite
    nonfinite_rewards: jax.Array  # i32[] rewards that were not finite
    nonfinite_gradients: jax.Array  # i32[] steps with a gradient that was not finite


def init_signals(params: Any, fraction: float) -> SignalsState:
    """The sensor before the first step.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      fraction: Share of the coordinates that the sketch keeps, in (0, 1].
    """
    return SignalsState(
        signal_count=jnp.zeros((), jnp.int32),
        loss_series=jnp.zeros(len(Series._fields), jnp.float32),
        reward_series=jnp.zeros(len(Series._fields), jnp.float32),
        gradient_series=jnp.zeros(len(Gradient._fields), jnp.float32),
        alignment_series=jnp.zeros(len(Cosines._fields), jnp.float32),
        heading_series=jnp.zeros(len(Cosines._fields), jnp.float32),
        way=motion.init_motion(params, fraction),
        nonfinite_values=jnp.zeros((), jnp.int32),
        nonfinite_rewards=jnp.zeros((), jnp.int32),
        nonfinite_gradients=jnp.zeros((), jnp.int32),
    )


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
    loss_before = Series(*state.loss_series)
    reward_before = Series(*state.reward_series)
    loss = series.extend(loss_before, value, has_value, falls=True)
    gain = series.extend(reward_before, reward, has_reward, falls=False)
    of_loss = series.read(loss)

    gradient, grad_norm_z = observe(Gradient(*state.gradient_series), norms)
    fraction = sketching.fraction_of(grads, fraction)
    seen = sketching.take(grads, fraction)
    scales = sketching.scales(grads, seen)

    def align(before: jax.Array, step: Any) -> tuple[Cosines, jax.Array, jax.Array]:
        against, known = sketching.cosine(seen, step, scales)
        return cosines.add(Cosines(*before), -against, norms.finite & known)

    alignment, cosine, has_alignment = align(
        state.alignment_series, state.way.step_sketch
    )
    heading, _, _ = align(state.heading_series, motion.since_anchor(state.way))
    mean, sem = cosines.mean(alignment)
    slow, slow_sem = cosines.slow_mean(alignment)
    ahead, ahead_sem = cosines.slow_mean(heading)

    signals = Signals(
        count=state.signal_count,
        has_value=has_value,
        value=loss.last,
        value_change=series.change(loss_before, loss, has_value),
        loss_fast=of_loss.fast,
        loss_slow=of_loss.slow,
        loss_noise=of_loss.noise,
        loss_trend=of_loss.trend,
        loss_progress=of_loss.progress,
        loss_gain=of_loss.fall,
        loss_variance=of_loss.variance,
        success=of_loss.success,
        loss_count=of_loss.count,
        has_reward=has_reward,
        reward=gain.last,
        reward_change=series.change(reward_before, gain, has_reward),
        reward_trend=-series.trend(gain),
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
        persistence=cosines.persistence(alignment),
        heading=ahead,
        heading_sem=ahead_sem,
        travel=state.way.travel_max / jnp.sqrt(gradient.total + 1e-30),
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
    return Series(*state.reward_series).begun > 0


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
    reward = series.read(Series(*state.reward_series))
    heard = signals._replace(
        has_value=signals.has_reward,
        value=-signals.reward,
        value_change=-signals.reward_change,
        loss_fast=-reward.fast,
        loss_slow=-reward.slow,
        loss_noise=reward.noise,
        loss_trend=-reward.trend,
        loss_progress=-reward.progress,
        loss_gain=-reward.fall,
        loss_count=reward.count,
        loss_variance=reward.variance,
        success=reward.success,
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
    way, carried = motion.record(state.way, updates, restored, fraction=fraction)
    again = jnp.where(restored, 0.0, 1.0)
    alignment = cosines.add_carried(Cosines(*state.alignment_series), *carried)
    loss, reward = (
        series.restart(Series(*one), again)
        for one in (state.loss_series, state.reward_series)
    )
    return state._replace(
        loss_series=loss,
        reward_series=reward,
        alignment_series=alignment * again,
        heading_series=state.heading_series * again,
        way=way,
    )


def _feedback(x: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A scalar, whether it is usable, and whether it came but is not."""
    if x is None:
        return jnp.zeros((), jnp.float32), jnp.zeros((), bool), jnp.zeros((), bool)
    x = jnp.asarray(x).astype(jnp.float32)
    usable = jnp.abs(x) < LARGEST  # False for NaN
    return jnp.where(usable, x, 0.0), usable, ~usable
