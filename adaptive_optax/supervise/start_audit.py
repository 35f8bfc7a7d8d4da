"""The audit of the start: 60 good steps, with the first parameters kept.

The rate rises to the base rate linearly over the first 20 steps, because the first
steps of an optimizer are its largest. After a failure those 20 are the whole audit.

Two bad batches more than good ones bring the first parameters back (`trial`), and if
their loss is sound, the start *fails*. It also fails

- if gradients oppose the steps: the averaged alignment is negative beyond its error (a
  larger `Law.trust` asks for more errors), and the loss neither falls nor has halved. A
  filter without memory is opposed at every rate; with one, the start fails only if the
  loss has not even moved;
- in the first 20 steps, if an agreement is lost: the averaged alignment was positive
  beyond its error and is now negative beyond it, the filter has memory, and the loss
  has not halved.

Then the rate drops to a fifth of what the warm-up had reached, at most 12 times. The
start *passes* after its last good step. If it ever failed, the rate is halved once
more, because the largest rate that survives is still too high.

When the data have changed for good (`skip`), the run starts again, from where it is, at
half of the trusted rate (at all of it under "safe"). Then the audit is the warm-up.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax._reasons import EventKind, Reason, because, first_of
from adaptive_optax.law import Audit, Law
from adaptive_optax.supervise.evidence import Evidence


class AuditState(NamedTuple):
    """State of the audit."""

    audit_left: jax.Array  # i32[] good steps until the audit is passed
    audit_steps: jax.Array  # i32[] how many there are in this start
    audit_agreed: jax.Array  # bool[] gradients have agreed since this start
    audit_failures: jax.Array  # i32[]


class AuditRuling(NamedTuple):
    """The audit's ruling on a step. Scalars."""

    may_fail: Any  # bool[] it has not failed too often yet
    opposed: Any  # bool[] the start fails: gradients oppose it
    opposition: Reason  # why they do
    agreed: Any  # bool[] they have agreed since this start
    failed: Any  # f32[] change of the log scale if it fails


def init_audit(law: Law) -> AuditState:
    """The audit before the first step; without its part of the law it is passed."""
    steps = jnp.asarray(law.audit.steps if law.audit else 0).astype(jnp.int32)
    return AuditState(
        audit_left=steps,
        audit_steps=steps,
        audit_agreed=jnp.zeros((), bool),
        audit_failures=jnp.zeros((), jnp.int32),
    )


def judge(evidence: Evidence, state: AuditState, law: Law) -> AuditRuling:
    """Judge one step of the start; after the audit nothing happens here."""
    e, audit = evidence, law.audit or Audit()
    agreed, opposed, opposition = _opposition(e, state, law, audit)
    may_fail = e.auditing & (state.audit_failures < audit.max_failures)
    judged = e.seen & ~e.skipped & (law.audit is not None)
    return AuditRuling(
        may_fail=may_fail,
        opposed=may_fail & judged & opposed,
        opposition=opposition,
        agreed=agreed,
        failed=law.cut + jnp.log(warm_up(state, e.started, law)),
    )


def update(
    evidence: Evidence,
    state: AuditState,
    law: Law,
    ruling: AuditRuling,
    *,
    restore: jax.Array,
    convicted: jax.Array,
) -> tuple[jax.Array, AuditState]:
    """The change of the log scale where the start passes late, and the next state."""
    e, old = evidence, state
    counts = e.auditing & ~e.skipped & ~e.repeat & ~restore
    counts &= e.signals.objective.arrived | (old.audit_left > 1)
    failures = old.audit_failures + (e.auditing & convicted)
    again = e.auditing & (restore | convicted)
    begins = e.accepted & ~e.auditing & (law.audit is not None)
    length = jnp.where(begins | (failures > 0), law.warmup_steps, old.audit_steps)
    left = jnp.where(again | begins, length, old.audit_left - counts)
    passed_late = counts & (left == 0) & (failures > 0)
    correction = jnp.where(passed_late, jnp.log(law.half), 0.0)
    return correction, AuditState(
        audit_left=left.astype(jnp.int32),
        audit_steps=length.astype(jnp.int32),
        audit_agreed=ruling.agreed & ~again & e.auditing,
        audit_failures=jnp.where(begins, 0, failures),
    )


def _opposition(
    e: Evidence, old: AuditState, law: Law, audit: Audit
) -> tuple[jax.Array, jax.Array, Reason]:
    """Whether gradients have agreed since this start, whether they oppose now; why."""
    loss, agreement = e.signals.objective, e.signals.alignment
    count, mean, error = agreement.count, agreement.mean, agreement.sem
    correlation = e.signals.step_correlation.mean
    # Without momentum a step turns with its gradient, so opposition says little.
    carries = correlation > 0
    limit = -law.margin - audit.opposed * law.trust * error
    opposed = mean < limit
    opposed &= loss.trend < law.hint
    opposed &= loss.drop < jnp.where(carries, law.half, law.little)
    agrees = agreement.slow > law.margin + law.hint * agreement.slow_sem
    agreed = old.audit_agreed | (agrees & (count >= law.readings))
    lost = agreed & carries & (mean < -law.hint * error) & (loss.drop < law.half)
    turned = because(~opposed, EventKind.START_TURNED, mean, -law.hint * error)
    reason = first_of(turned, because(True, EventKind.START_OPPOSED, mean, limit))
    opposed |= lost & (count <= law.warmup_steps)
    return agreed, opposed & e.started & (count >= law.readings), reason


def proceed(
    state: AuditState, *, nonfinite: jax.Array, repeat: jax.Array
) -> AuditState:
    """Count a step without feedback; only a step with a loss ends the audit."""
    counts = ~nonfinite & ~repeat & (state.audit_left > 1)
    return state._replace(audit_left=state.audit_left - counts)


def warming(state: AuditState, law: Law) -> jax.Array:
    """Whether the rate still rises, bool[]."""
    left = state.audit_left
    return (left > 0) & (left > state.audit_steps - law.warmup_steps)


def warm_up(state: AuditState, started: jax.Array, law: Law) -> jax.Array:
    """Share of the rate that a step of the audit takes, f32[] in (0, 1].

    Before the first loss (not ``started``) it is 1: runs without a loss skip the
    warm-up.
    """
    taken = (state.audit_steps + 1 - state.audit_left).astype(jnp.float32)
    rises = (state.audit_left > 0) & started
    return jnp.where(rises, jnp.minimum(taken / law.warmup_steps, 1.0), 1.0)
