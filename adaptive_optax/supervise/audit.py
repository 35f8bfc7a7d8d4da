"""The start is on probation: 60 good steps, with the first parameters kept.

The rate rises to the base rate linearly over the first 20 steps, for the first steps of
an optimizer are its largest. After a failure those 20 are the whole audit::

    doubted    if a suspicious loss comes with a negative averaged alignment: the
               first parameters return and the same rate is tried again
    fails      on three strikes, on a second doubt, or if gradients oppose the steps:
               the averaged alignment is negative beyond its error, by more the more
               the base rate is believed, while the loss neither clearly falls nor has
               halved (without memory steps are opposed at every rate, and the loss
               need only have moved); or, in its first 20 steps, if the steps carry on
               (`Signals.persistence`) although it is clearly negative, whatever the
               loss does, or so far below zero as above after it was clearly positive,
               the loss not halved;
               then the first parameters return and the rate drops to a fifth of what
               the warm-up had reached (to a 25th if that was not finite), at most 12
               times. What is not finite before the first good step is counted and no
               more: no rate has been at work
    passes     after its last good step; if it ever failed the rate is halved once
               more, for the largest rate that survives is still too high
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.law import Audit, Law
from adaptive_optax.supervise.evidence import Evidence


class AuditState(NamedTuple):
    """State of the audit."""

    audit_left: jax.Array  # i32[] good steps until the audit is passed
    audit_agreed: jax.Array  # bool[] since this start, gradients with the steps
    audit_doubts: jax.Array  # i32[] replays at the present rate
    audit_failures: jax.Array  # i32[]


class AuditRuling(NamedTuple):
    """What the audit makes of a step. Scalars, bool[] unless a comment says more."""

    failed: Any
    again: Any  # the same rate is tried again from the first parameters
    only_opposed: Any  # it failed because gradients opposed it, and for nothing else
    late: Any  # it is passed after a failure
    jump: Any  # f32[] change of the coordinate that this calls for


def init_audit(law: Audit | None) -> AuditState:
    """The audit before the first step; without one it is passed."""
    return AuditState(
        audit_left=jnp.asarray(law.steps if law else 0).astype(jnp.int32),
        audit_agreed=jnp.zeros((), bool),
        audit_doubts=jnp.zeros((), jnp.int32),
        audit_failures=jnp.zeros((), jnp.int32),
    )


def update(
    evidence: Evidence, state: AuditState, law: Law
) -> tuple[AuditRuling, AuditState]:
    """Weigh one step of the start; after the audit nothing happens here."""
    if law.audit is None:
        no = jnp.zeros((), bool)
        return AuditRuling(no, no, no, no, jnp.zeros((), jnp.float32)), state
    e, old, audit = evidence, state, law.audit
    agreed, opposed = _opposition(e, old, law, audit)
    s = e.signals
    doubted = e.above_start & (s.alignment_count > 0) & (s.alignment_mean < 0)
    may_fail = e.auditing & (old.audit_failures < audit.max_failures)
    again = may_fail & ~e.repeat & doubted & (old.audit_doubts == 0) & ~e.out
    failed = may_fail & ~e.repeat & ~again & (e.out | opposed | doubted)

    counts = e.auditing & ~e.suspicious & ~e.repeat & ~e.nonfinite
    counts &= ~failed & ~again
    counts &= s.has_value | (old.audit_left > 1)
    left = old.audit_left - counts
    late = counts & (left == 0) & (old.audit_failures > 0)
    length = jnp.where(failed | (old.audit_failures > 0), audit.again, audit.steps)
    left = jnp.where(failed | again, length, left)

    only_opposed = failed & ~e.suspicious & (e.strikes == 0)
    only_opposed &= old.audit_doubts == 0
    jump = jnp.where(
        failed, audit.failed + jnp.log(warm_up(old, e.started, audit)), 0.0
    )
    jump += jnp.where(failed & e.nonfinite, audit.failed, 0.0)
    jump += jnp.where(late, audit.passed_late, 0.0)
    ruling = AuditRuling(failed, again, only_opposed, late, jump)
    return ruling, AuditState(
        audit_left=left.astype(jnp.int32),
        audit_agreed=agreed & ~(failed | again) & (e.auditing | ~e.out),
        audit_doubts=jnp.where(failed, 0, old.audit_doubts + again),
        audit_failures=old.audit_failures + failed,
    )


def _opposition(
    e: Evidence, old: AuditState, law: Law, audit: Audit
) -> tuple[jax.Array, jax.Array]:
    """Whether gradients have agreed since this start, and whether they oppose it."""
    s = e.signals
    count, mean, error = s.alignment_count, s.alignment_mean, s.alignment_sem
    # Without momentum a step turns with its gradient: that one overshoots is no fault.
    carries = s.persistence > audit.carried
    opposed = mean < -audit.margin - audit.opposed * law.strength * error
    opposed &= s.loss_trend < audit.falling
    opposed &= s.loss_gain < jnp.where(carries, law.halved, law.unmoved)
    agrees = s.alignment_slow > audit.margin + audit.agreed * s.alignment_slow_sem
    agreed = old.audit_agreed | (agrees & (count >= audit.agreed_after))
    overshot = (mean < -audit.margin - audit.overshot * error) & (s.persistence > 0)
    outrun = agreed & carries & (mean < -audit.outrun * law.strength * error)
    outrun &= s.loss_gain < law.halved
    early = (overshot | outrun) & (count <= audit.warmup_steps)
    opposed = (count >= audit.opposed_after) & (opposed | early)
    return agreed, opposed & e.started


def proceed(
    state: AuditState, *, nonfinite: jax.Array, repeat: jax.Array, strikes: jax.Array
) -> AuditState:
    """A step without feedback counts, but only one with a loss ends the audit."""
    counts = ~nonfinite & ~repeat & (strikes == 0) & (state.audit_left > 1)
    return state._replace(audit_left=state.audit_left - counts)


def untouched(state: AuditState, strikes: jax.Array, audit: Audit) -> jax.Array:
    """Whether no good step has been made since theta_0, bool[]."""
    whole = state.audit_left == _steps(state, audit)
    return (state.audit_left > 0) & whole & (strikes == 0)


def warming(state: AuditState, audit: Audit) -> jax.Array:
    """Whether the rate still rises, bool[]."""
    left = state.audit_left
    return (left > 0) & (left > _steps(state, audit) - audit.warmup_steps)


def warm_up(state: AuditState, started: jax.Array, audit: Audit) -> jax.Array:
    """Share of the rate that a step of the audit takes, f32[] in (0, 1].

    It is 1 while not ``started``, before the first loss: runs without a loss skip the
    warm-up.
    """
    taken = (_steps(state, audit) + 1 - state.audit_left).astype(jnp.float32)
    rises = (state.audit_left > 0) & started
    return jnp.where(rises, jnp.minimum(taken / audit.warmup_steps, 1.0), 1.0)


def _steps(state: AuditState, audit: Audit) -> jax.Array:
    """Good steps that this start's audit takes."""
    return jnp.where(state.audit_failures > 0, audit.again, audit.steps)
