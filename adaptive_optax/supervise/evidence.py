"""What the loss is compared with, and the evidence of one step.

A batch is *far outside* if its loss is far above a level::

    in the audit   loss > l0 + max(|l0| / 2, 2 jitter)
                   or ||g|| < ||g0|| / 10 and loss > l0 - min(jitter, |l0| / 2):
                   units have died
    from then on   loss > good + 2 max(|good|, range / 20) + 6 noise
                   or ||g|| > 10 usual exp(6 spread)

l0 is the highest loss at theta_0, good is the loss of the good parameters, and the
jitter is the largest change between calm steps. The range is what the loss has covered:
near 0 a loss may be many times the good one and still be as good as nothing. The shares
of |l0| and |good| assume that the loss cannot go below 0. Once a loss has been at or
below 0, only the noise says what is far, with half the range in place of |good|. A
reward that is better by 2 noise excuses a large gradient.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax._types import UNSET, Limits, Signals
from adaptive_optax.law import Law, Skip
from adaptive_optax.sense import series
from adaptive_optax.sense.gradient import LARGEST, Gradient
from adaptive_optax.sense.stage import Seen

RAISE = 10.0  # margins by which a batch may raise the first loss
ENDLESS = 1e30  # stands for an infinite trust: no cosine is as many errors from 0


class Levels(NamedTuple):
    """What the loss is compared with; `UNSET` stands for a loss not known yet."""

    first_value: jax.Array  # f32[] the highest at theta_0
    lowest_value: jax.Array  # f32[]
    first_norm: jax.Array  # f32[] of the gradient; 0: none yet
    audit_jitter: jax.Array  # f32[] largest change between calm steps of the audit
    audit_calm: jax.Array  # i32[] calm changes seen
    good_value: jax.Array  # f32[] loss of the copy, set by the next good one
    good_noise: jax.Array  # f32[] its standard deviation


class Evidence(NamedTuple):
    """The evidence of one step. Scalars, bool[] unless a comment says otherwise."""

    signals: Signals
    limits: Limits  # what the batch had to keep
    norm: Any  # f32[] of the gradient; finite where it is judged
    objective: Any  # f32[] as it came; 0 where it did not
    told: Any  # it came
    log_scale: Any  # f32[] of the rate, minus where it started
    auditing: Any
    repeat: Any  # the step after a restore: the good parameters are back
    resting: Any  # no restore is under way
    skipped: Any  # the batch is not learnt from
    nonfinite: Any  # its gradient is not finite
    bad: Any  # it is, or the batch is far outside
    accepted: Any  # it is far outside, but no more may be skipped
    seen: Any  # a loss was read, and this step is no repeat
    started: Any  # a loss came before this step
    first: Any  # f32[] the first loss, this step's included
    lowest: Any  # f32[] the lowest one, likewise
    first_norm: Any  # f32[] the first gradient's, likewise
    known: Any  # the good parameters have a loss
    good: Any  # f32[] that loss; 0 where it is not known
    fast_error: Any  # f32[] standard error of the fast average


def init_levels() -> Levels:
    """No level is known."""
    return Levels(
        first_value=jnp.asarray(UNSET),
        lowest_value=jnp.asarray(UNSET),
        first_norm=jnp.zeros((), jnp.float32),
        audit_jitter=jnp.zeros((), jnp.float32),
        audit_calm=jnp.zeros((), jnp.int32),
        good_value=jnp.asarray(UNSET),
        good_noise=jnp.zeros((), jnp.float32),
    )


def limits(
    levels: Levels, law: Law, usual: Gradient, *, auditing: jax.Array, room: jax.Array
) -> Limits:
    """What a batch must keep to be learnt from.

    Args:
      levels: What the loss is compared with.
      law: Its numbers say what is far.
      usual: The norms of the gradients up to now.
      auditing: bool[] the start is being audited.
      room: bool[] another batch may be skipped.
    """
    skip = law.skip or Skip()
    signed = levels.lowest_value <= 0  # 0 is not the loss's lower bound
    begun = levels.first_value < UNSET
    first = jnp.where(begun, levels.first_value, 0.0)
    margin = jnp.maximum(
        jnp.where(signed, 0.0, law.half * jnp.abs(first)),
        law.clear * levels.audit_jitter,
    )
    half = jnp.where(signed, UNSET, law.half * jnp.abs(first))
    gained = jnp.minimum(levels.audit_jitter, half)
    told = begun & (~signed | (levels.audit_calm >= law.readings))
    known = levels.good_value < UNSET
    good = jnp.where(known, levels.good_value, 0.0)
    span = jnp.where(begun, first - levels.lowest_value, 0.0)
    # Near 0 a loss may be many times the good one and still be as good as nothing.
    scale = jnp.where(
        signed, law.half * span, jnp.maximum(abs(good), skip.share * span)
    )
    allowed = law.clear * scale + skip.noises * levels.good_noise
    known &= (allowed > 0) & (law.skip is not None)
    return Limits(
        loss=jnp.where(
            auditing,
            jnp.where(told, first + margin, UNSET),
            jnp.where(known, good + allowed, UNSET),
        ),
        dead_norm=jnp.where(auditing, law.little * levels.first_norm, 0.0),
        dead_loss=jnp.where(begun, first - gained, UNSET),
        norm=jnp.where(auditing, UNSET, _largest_norm(usual, skip, law)),
        room=room,
    )


def _largest_norm(usual: Gradient, skip: Skip, law: Law) -> jax.Array:
    """Above it one gradient would fill the second moments of Adam for long, f32[]."""
    log_norm = usual.log_norm + skip.noises * usual.deviation - jnp.log(law.little)
    known = (usual.norms_seen > law.readings) & (law.skip is not None)
    return jnp.where(known, jnp.exp(jnp.minimum(log_norm, math.log(LARGEST))), UNSET)


def weigh(
    seen: Seen,
    bounds: Limits,
    levels: Levels,
    *,
    log_scale: jax.Array,
    restoring: jax.Array,
    auditing: jax.Array,
    moved: jax.Array,
    law: Law,
) -> Evidence:
    """Compute the evidence of one step.

    Args:
      seen: What the step has brought.
      bounds: The `limits` of the levels.
      levels: What the loss is compared with.
      log_scale: f32[] log of what multiplies the base rate.
      restoring: i32[] steps until the parameters are back to the bit.
      auditing: bool[] the start is being audited.
      moved: bool[] a step was taken since the good parameters came back.
      law: Says over which horizon the fast mean goes.
    """
    signals, loss = seen.signals, seen.signals.objective
    repeat = restoring == 2
    read = loss.arrived & ~repeat
    came = seen.told & ~seen.nonfinite
    exceeded = came & bounds.exceeded(seen.objective, seen.norm)
    # A first loss may be low by chance: each replay measures theta_0 once more.
    replayed = auditing & (restoring > 0)
    begun = levels.first_value < UNSET
    # Step by step, for a single batch may be anything.
    limited = bounds.loss < UNSET
    margin = jnp.where(limited, bounds.loss - levels.first_value, 0.0)
    most = jnp.where(limited, levels.first_value + RAISE * margin, UNSET)
    raised = jnp.maximum(levels.first_value, jnp.minimum(seen.objective, most))
    first = jnp.where(read & ~begun, loss.value, levels.first_value)
    accepted = exceeded & read & ~moved
    first = jnp.where(came & begun & (replayed | (accepted & auditing)), raised, first)
    # New data: the start that begins now has its own first loss.
    first = jnp.where(accepted & ~auditing, seen.objective, first)
    lowest = jnp.minimum(levels.lowest_value, loss.value)
    norm = jnp.where(signals.has_gradient, signals.grad_norm, 0.0)
    keeps = (levels.first_norm > 0) & ~accepted
    known = levels.good_value < UNSET
    return Evidence(
        signals=signals,
        limits=bounds,
        norm=seen.norm,
        objective=seen.objective,
        told=seen.told,
        log_scale=log_scale,
        auditing=auditing,
        repeat=repeat,
        resting=restoring == 0,
        skipped=~seen.learnt,
        nonfinite=seen.nonfinite,
        bad=seen.nonfinite | exceeded,
        accepted=accepted,
        seen=read,
        started=begun,
        first=first,
        lowest=jnp.where(read, lowest, levels.lowest_value),
        first_norm=jnp.where(keeps, levels.first_norm, norm),
        known=known,
        good=jnp.where(known, levels.good_value, 0.0),
        fast_error=loss.noise * series.fast_error(law.ema_decay),
    )


def learn(
    e: Evidence, old: Levels, settled: jax.Array, healthy: jax.Array, calm: jax.Array
) -> Levels:
    """Update the levels with this step's loss."""
    loss = e.signals.objective
    learns = e.seen & (settled | ~e.started | (~e.known & healthy & ~e.auditing))
    change = jnp.maximum(old.audit_jitter, jnp.abs(loss.change))
    good = jnp.where(learns, loss.fast, old.good_value)
    return Levels(
        first_value=e.first,
        lowest_value=e.lowest,
        first_norm=e.first_norm,
        audit_jitter=jnp.where(calm, change, old.audit_jitter),
        audit_calm=old.audit_calm + (calm & (loss.change != 0)),
        good_value=jnp.where(e.accepted & ~e.auditing, UNSET, good),
        # Right after a restore there is no noise to measure, so the old one stays.
        good_noise=jnp.where(
            learns & (e.known | ~e.started), loss.noise, old.good_noise
        ),
    )


def a_while(e: Evidence, law: Law) -> jax.Array:
    """Losses that count as a short while at the run's age, f32[]."""
    age = e.signals.count.astype(jnp.float32)
    return jnp.maximum(jnp.float32(law.level_after), law.lately * age)


def one_less(count: jax.Array) -> jax.Array:
    """The next value of a countdown, at least 0."""
    return jnp.maximum(count - 1, 0)
