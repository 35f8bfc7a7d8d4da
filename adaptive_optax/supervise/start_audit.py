"""The audit of the start: 60 good steps, with the first parameters kept.

The rate rises to the base rate linearly over the first 20 steps, because the first
steps of an optimizer are its largest. After a failure those 20 are the whole audit.

The start is *replayed*, once at each rate, if a suspicious loss comes with a negative
averaged alignment: the first parameters return and the same rate is tried again.

The start *fails*

- on three strikes;
- on a suspicious loss with a negative averaged alignment after a replay;
- if gradients oppose the steps: the averaged alignment is negative beyond its error (a
  larger `Law.trust` asks for more errors), and the loss neither clearly falls nor has
  halved. A filter without memory is opposed at every rate; with one, the start fails
  only if the loss has not even moved;
- in the first 20 steps, if the step correlation is positive and the averaged alignment
  is clearly negative, whatever the loss does;
- in the first 20 steps, if an agreement is lost: the averaged alignment was clearly
  positive and is now negative beyond its error (more of it for a larger trust), the
  filter has memory, and the loss has not halved.

Then the first parameters return, and the rate drops to a fifth of what the warm-up had
reached (to a 25th if the step was not finite), at most 12 times. A step that is not
finite before the first good step is only counted: no rate has acted yet.

The start *passes* after its last good step. If it ever failed, the rate is halved once
more, because the largest rate that survives is still too high.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.law import Audit, Law
from adaptive_optax.supervise.evidence import Evidence


class AuditState(NamedTuple):
    """State of the audit."""

    audit_left: jax.Array  # i32[] good steps until the audit is passed
    audit_agreed: jax.Array  # bool[] gradients have agreed since this start
    audit_replays: jax.Array  # i32[] replays at the present rate
    audit_failures: jax.Array  # i32[]


class AuditRuling(NamedTuple):
    """The audit's ruling on a step. Scalars, bool[] unless a comment says more."""

    failed: Any
    replay_start: Any  # the same rate is tried again from the first parameters
    only_opposed: Any  # it failed only because gradients opposed it
    passed_late: Any  # it passes after a failure
    correction: Any  # f32[] change of the log scale that this calls for


def init_audit(law: Audit | None) -> AuditState:
    """The audit before the first step; without a law it is passed."""
    return AuditState(
        audit_left=jnp.asarray(law.steps if law else 0).astype(jnp.int32),
        audit_agreed=jnp.zeros((), bool),
        audit_replays=jnp.zeros((), jnp.int32),
        audit_failures=jnp.zeros((), jnp.int32),
    )


def update(
    evidence: Evidence, state: AuditState, law: Law
) -> tuple[AuditRuling, AuditState]:
    """Judge one step of the start; after the audit nothing happens here."""
    if law.audit is None:
        no = jnp.zeros((), bool)
        return AuditRuling(no, no, no, no, jnp.zeros((), jnp.float32)), state
    e, old, audit = evidence, state, law.audit
    agreed, opposed = _opposition(e, old, law, audit)
    agreement = e.signals.alignment
    doubted = e.above_start & (agreement.count > 0) & (agreement.mean < 0)
    may_fail = e.auditing & (old.audit_failures < audit.max_failures)
    replay = may_fail & ~e.repeat & doubted & (old.audit_replays == 0) & ~e.out
    failed = may_fail & ~e.repeat & ~replay & (e.out | opposed | doubted)

    counts = e.auditing & ~e.suspicious & ~e.repeat & ~e.nonfinite
    counts &= ~failed & ~replay
    counts &= e.signals.objective.arrived | (old.audit_left > 1)
    left = old.audit_left - counts
    passed_late = counts & (left == 0) & (old.audit_failures > 0)
    length = jnp.where(failed | (old.audit_failures > 0), audit.again, audit.steps)
    left = jnp.where(failed | replay, length, left)

    only_opposed = failed & ~e.suspicious & (e.strikes == 0)
    only_opposed &= old.audit_replays == 0
    correction = jnp.where(
        failed, audit.failed + jnp.log(warm_up(old, e.started, audit)), 0.0
    )
    correction += jnp.where(failed & e.nonfinite, audit.failed, 0.0)
    correction += jnp.where(passed_late, audit.passed_late, 0.0)
    ruling = AuditRuling(failed, replay, only_opposed, passed_late, correction)
    return ruling, AuditState(
        audit_left=left.astype(jnp.int32),
        audit_agreed=agreed & ~(failed | replay) & (e.auditing | ~e.out),
        audit_replays=jnp.where(failed, 0, old.audit_replays + replay),
        audit_failures=old.audit_failures + failed,
    )


def _opposition(
    e: Evidence, old: AuditState, law: Law, audit: Audit
) -> tuple[jax.Array, jax.Array]:
    """Whether gradients have agreed since this start, and whether they oppose now."""
    loss, agreement = e.signals.objective, e.signals.alignment
    count, mean, error = agreement.count, agreement.mean, agreement.sem
    correlation = e.signals.step_correlation.mean
    # Without momentum a step turns with its gradient, so opposition says little.
    carries = correlation > audit.carried
    opposed = mean < -audit.margin - audit.opposed * law.trust * error
    opposed &= loss.trend < audit.falling
    opposed &= loss.drop < jnp.where(carries, law.halved, law.unmoved)
    agrees = agreement.slow > audit.margin + audit.agreed * agreement.slow_sem
    agreed = old.audit_agreed | (agrees & (count >= audit.agreed_after))
    overshot = (mean < -audit.margin - audit.overshot * error) & (correlation > 0)
    agreement_lost = (
        agreed & carries & (mean < -audit.agreement_lost * law.trust * error)
    )
    agreement_lost &= loss.drop < law.halved
    early = (overshot | agreement_lost) & (count <= audit.warmup_steps)
    opposed = (count >= audit.opposed_after) & (opposed | early)
    return agreed, opposed & e.started


def proceed(
    state: AuditState, *, nonfinite: jax.Array, repeat: jax.Array, strikes: jax.Array
) -> AuditState:
    """Count a step without feedback; only a step with a loss ends the audit."""
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

    Before the first loss (not ``started``) it is 1: runs without a loss skip the
    warm-up.
    """
    taken = (_steps(state, audit) + 1 - state.audit_left).astype(jnp.float32)
    rises = (state.audit_left > 0) & started
    return jnp.where(rises, jnp.minimum(taken / audit.warmup_steps, 1.0), 1.0)


def _steps(state: AuditState, audit: Audit) -> jax.Array:
    """How many good steps this start's audit lasts."""
    return jnp.where(state.audit_failures > 0, audit.again, audit.steps)
