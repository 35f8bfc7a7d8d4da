"""The evidence of one step, computed once for the audit, the guard and the retry.

A step is *suspicious* if its loss or gradient is not finite, or if its loss is far
above a level. A suspicious step adds a strike, any other step takes one away, and three
strikes are a divergence. So no single batch, however bad, and no isolated NaN is
punished: a bad batch does not mean that the rate is bad. Far above means::

    in the audit   loss > l0 + max(|l0| / 2, 2 jitter)
                   or ||g|| < ||g0|| / 10 and loss > l0 - jitter: units have died
    from then on   loss > good + 2 |good| + 6 noise
    in a retry     loss and its fast average > good + .12 |good| + 2 standard errors

l0 is the highest loss at theta_0, good is the loss of the good parameters, and the
jitter is the largest change between calm steps. The shares of |l0| and |good| assume
that the loss cannot go below 0. Once a loss has been at or below 0, only the noise says
what is high, with half the range that the loss has covered in place of |good|.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax._types import Signals
from adaptive_optax.law import Audit, Guard, Law, Retry
from adaptive_optax.sense.series import FAST_ERROR


class Levels(NamedTuple):
    """What the loss is compared with."""

    first_value: jax.Array  # f32[] the highest at theta_0; -inf: none yet
    lowest_value: jax.Array  # f32[]
    first_norm: jax.Array  # f32[] of the gradient; 0: none yet
    audit_jitter: jax.Array  # f32[] largest change between calm steps of the audit
    audit_calm: jax.Array  # i32[] calm changes seen
    good_value: jax.Array  # f32[] loss of the copy; inf: the next good one sets it
    good_noise: jax.Array  # f32[] its standard deviation


class Evidence(NamedTuple):
    """The evidence of one step. Scalars, bool[] unless a comment says otherwise."""

    signals: Signals
    log_scale: Any  # f32[] of the rate, minus where it started
    held: Any  # no retry may begin or climb
    auditing: Any
    repeat: Any  # the step after a restore: the good parameters are back
    resting: Any  # no restore is under way
    nonfinite: Any  # something came and was not finite
    seen: Any  # a loss came, and this step is no repeat
    started: Any  # a loss came before this step
    first: Any  # f32[] the first loss, this step's included
    lowest: Any  # f32[] the lowest one, likewise
    first_norm: Any  # f32[] the first gradient's, likewise
    above_start: Any  # the loss is far above the first, or the gradient has died
    known: Any  # the good parameters have a loss
    good: Any  # f32[] that loss; 0 where it is not known
    fast_error: Any  # f32[] standard error of the fast average
    allowance: Any  # f32[] by which the average may exceed the good loss in a retry
    judged: Any  # there is a loss, and a level to judge it by
    rise: Any  # f32[] above the good loss; 1 is the limit of suspicion
    suspicious: Any
    strikes: Any  # i32[] with this step's
    out: Any  # three of them


def init_levels() -> Levels:
    """No level is known."""
    return Levels(
        first_value=jnp.asarray(-jnp.inf, jnp.float32),
        lowest_value=jnp.asarray(jnp.inf, jnp.float32),
        first_norm=jnp.zeros((), jnp.float32),
        audit_jitter=jnp.zeros((), jnp.float32),
        audit_calm=jnp.zeros((), jnp.int32),
        good_value=jnp.asarray(jnp.inf, jnp.float32),
        good_noise=jnp.zeros((), jnp.float32),
    )


def weigh(
    signals: Signals,
    levels: Levels,
    law: Law,
    *,
    log_scale: jax.Array,
    held: bool | jax.Array,
    nonfinite: jax.Array,
    restoring: jax.Array,
    strikes: jax.Array,
    auditing: jax.Array,
    untouched: jax.Array,
    retrying: jax.Array,
) -> Evidence:
    """Compute the evidence of one step.

    Args:
      signals: The step's measurements.
      levels: What the loss is compared with.
      law: Its numbers say what is far above.
      log_scale: f32[] log of what multiplies the base rate.
      held: bool[] no retry may begin or climb.
      nonfinite: bool[] the loss, reward or gradient came and was not finite.
      restoring: i32[] steps until the parameters are back to the bit.
      strikes: i32[] before this step.
      auditing: bool[] the start is being audited.
      untouched: bool[] no good step has been made since theta_0, so a value that is
        not finite was not caused by the rate.
      retrying: bool[] a rate that failed is being tried again.
    """
    loss = signals.objective
    # If a part is off, the default numbers stand in; their result is not used.
    start, guard = law.audit or Audit(), law.guard or Guard()
    errors = (law.retry or Retry()).errors
    repeat = restoring == 2
    seen = loss.arrived & ~repeat
    # A first loss may be low by chance: each replay measures theta_0 once more.
    replayed = auditing & (restoring == 1)
    first, lowest, first_norm = _begun(signals, levels, seen, replayed)
    signed = lowest <= 0  # 0 is not the loss's lower bound
    above_start = seen & _far_above_start(signals, levels, first, signed, start)
    above_start |= seen & _dead(signals, levels, first, first_norm, start)

    known = jnp.isfinite(levels.good_value)
    good = jnp.where(known, levels.good_value, 0.0)
    loss_scale = jnp.where(signed, 0.5 * (first - lowest), jnp.abs(good))
    allowed = guard.loss_scales * loss_scale + guard.noises * levels.good_noise
    rise = (loss.value - good) / allowed
    fast_error = loss.noise * FAST_ERROR
    share = jnp.where(signed, 0.0, law.unmoved * loss_scale)
    # Loss and average, because the average remembers a bad batch for many steps. Right
    # after a restore there is only one loss.
    lower = jnp.where(repeat, loss.value, jnp.minimum(loss.value, loss.fast))
    error = jnp.where(repeat, levels.good_noise, fast_error)
    rise = jnp.where(retrying, (lower - good) / (share + errors * error), rise)
    judged = loss.arrived & known & ((loss_scale > 0) | (levels.good_noise > 0))
    above_good = judged & ~repeat & (rise > 1) & (law.guard is not None)

    high = jnp.where(auditing, above_start, above_good)
    suspicious = (nonfinite & ~untouched | high) & ~repeat
    calmer = jnp.where(loss.arrived, one_less(strikes), strikes)
    strikes = jnp.where(suspicious, strikes + 1, calmer)
    return Evidence(
        signals=signals,
        log_scale=log_scale,
        held=jnp.asarray(held),
        auditing=auditing,
        repeat=repeat,
        resting=restoring == 0,
        nonfinite=nonfinite,
        seen=seen,
        started=jnp.isfinite(levels.first_value),
        first=first,
        lowest=lowest,
        first_norm=first_norm,
        above_start=above_start,
        known=known,
        good=good,
        fast_error=fast_error,
        allowance=share + errors * fast_error,
        judged=judged,
        rise=rise,
        suspicious=suspicious,
        strikes=strikes,
        out=~repeat & (strikes >= law.strikes),
    )


def _begun(
    signals: Signals, levels: Levels, seen: jax.Array, replayed: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first loss, the lowest, and the first gradient norm, with this step's."""
    value, norm = signals.objective.value, signals.grad_norm
    first = jnp.where(
        seen & (~jnp.isfinite(levels.first_value) | replayed),
        jnp.maximum(levels.first_value, value),
        levels.first_value,
    )
    lowest = jnp.minimum(levels.lowest_value, value)
    first_norm = jnp.where(levels.first_norm > 0, levels.first_norm, norm)
    return first, jnp.where(seen, lowest, levels.lowest_value), first_norm


def _far_above_start(
    signals: Signals, levels: Levels, first: jax.Array, signed: jax.Array, law: Audit
) -> jax.Array:
    """Whether the loss is far above the first one, bool[]."""
    begun = jnp.isfinite(first)
    first = jnp.where(begun, first, 0.0)
    margin = jnp.maximum(
        jnp.where(signed, 0.0, law.start_share * jnp.abs(first)),
        law.start_jitters * levels.audit_jitter,
    )
    jitter_known = levels.audit_calm >= law.calm_changes
    far = begun & (signals.objective.value > first + margin)
    return far & (~signed | jitter_known)


def _dead(
    signals: Signals, levels: Levels, first: jax.Array, norm: jax.Array, law: Audit
) -> jax.Array:
    """Whether units have died: a small gradient, and no gain. False without a first."""
    small = signals.has_gradient & (signals.grad_norm < law.dead * norm)
    return small & (signals.objective.value > first - levels.audit_jitter)


def learn(
    e: Evidence, old: Levels, settled: jax.Array, healthy: jax.Array, calm: jax.Array
) -> Levels:
    """Update the levels with this step's loss."""
    loss = e.signals.objective
    learns = e.seen & (settled | ~e.started | (~e.known & healthy & ~e.auditing))
    calm &= ~e.suspicious
    change = jnp.maximum(old.audit_jitter, jnp.abs(loss.change))
    return Levels(
        first_value=e.first,
        lowest_value=e.lowest,
        first_norm=e.first_norm,
        audit_jitter=jnp.where(calm, change, old.audit_jitter),
        audit_calm=old.audit_calm + (calm & (loss.change != 0)),
        good_value=jnp.where(learns, loss.fast, old.good_value),
        # Right after a restore there is no noise to measure, so the old one stays.
        good_noise=jnp.where(
            learns & (e.known | ~e.started), loss.noise, old.good_noise
        ),
    )


def one_less(count: jax.Array) -> jax.Array:
    """The next value of a countdown, at least 0."""
    return jnp.maximum(count - 1, 0)
