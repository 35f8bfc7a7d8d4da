"""Try a rate again, once, if its start failed only because gradients opposed it.

At some sound rates gradients oppose the steps, and no statistic of the start can tell
these from rates that are too high::

    begins     with a new copy of the good parameters, when the loss at the lower rate
               stands still and has not halved; not while a schedule rises, where a
               schedule has halved since half the run, or near the known end
    climbs     back to the rate that failed, by .06 a step, and then leaves it alone
    fails      on three strikes, see `evidence`: the good parameters and the lower rate
               return; whether the data have changed is judged as in the guard
    is over    150 losses after the climb, or when the loss has halved
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees
from adaptive_optax.law import Law
from adaptive_optax.supervise.divergence_guard import GuardRuling
from adaptive_optax.supervise.evidence import Evidence, one_less
from adaptive_optax.supervise.start_audit import AuditRuling


class RetryState(NamedTuple):
    """State of the retry."""

    retrying: jax.Array  # i32[] losses left in which it is judged; 0: no retry
    retry_from: jax.Array  # f32[] the log scale before the retry
    retry_log_scale: jax.Array  # f32[] the one to try again; -inf: none


class RetryRuling(NamedTuple):
    """The retry's ruling on a step. Scalars."""

    begins: Any  # bool[]
    min_rise: Any  # f32[] the log scale rises by at least this
    falls_back: Any  # bool[] it failed, above the log scale it began at
    fall: Any  # f32[] the change back to that log scale


def init_retry() -> RetryState:
    """The retry before the first step."""
    return RetryState(
        retrying=jnp.zeros((), jnp.int32),
        retry_from=jnp.zeros((), jnp.float32),
        retry_log_scale=jnp.asarray(-jnp.inf, jnp.float32),
    )


def update(
    evidence: Evidence,
    state: RetryState,
    audit: AuditRuling,
    guard: GuardRuling,
    law: Law,
    *,
    checking_restore: jax.Array,
    free: jax.Array,
) -> tuple[RetryRuling, RetryState]:
    """Judge one step.

    Args:
      evidence: Of the step.
      state: The retry.
      audit: The audit's ruling on the step.
      guard: The guard's ruling.
      law: The law; its ``retry`` has the numbers.
      checking_restore: bool[] the guard went back at the step before.
      free: bool[] a healthy step with a loss, after the audit.
    """
    if law.retry is None:
        no, zero = jnp.zeros((), bool), jnp.zeros((), jnp.float32)
        return RetryRuling(no, zero, no, zero), state
    e, old, retry = evidence, state, law.retry
    loss = e.signals.objective
    target = jnp.where(
        audit.failed & ~audit.only_opposed, -jnp.inf, old.retry_log_scale
    )
    target = jnp.where(audit.only_opposed, jnp.maximum(target, e.log_scale), target)
    still = (jnp.abs(loss.trend) < retry.still) & (loss.long_trend < retry.still)
    still &= (loss.drop < law.halved) & (loss.count >= law.level_after)
    still &= loss.fast <= e.good + e.allowance
    retried = old.retrying > 0
    begins = free & e.known & still & ~e.held & ~retried & (e.log_scale < target)

    gap = jnp.where(begins, target - e.log_scale, 0.0)
    watch = jnp.ceil(gap / retry.pace) + retry.watch
    watch = jnp.minimum(watch, _trees.LARGEST_COUNT).astype(jnp.int32)
    retrying = jnp.where(e.seen, one_less(old.retrying), old.retrying)
    retrying = jnp.where(begins, watch, retrying)
    judged_again = e.repeat & checking_restore  # with the good parameters
    retrying = jnp.where((loss.drop >= law.halved) | judged_again, 0, retrying)
    retry_from = jnp.where(begins, e.log_scale, old.retry_from)

    climbs = free & (retrying > 0) & ~e.held
    rise = jnp.where(climbs, jnp.clip(target - e.log_scale, 0.0, retry.pace), 0.0)
    arrives = climbs & (target - e.log_scale <= retry.pace)
    spent = retried & (retrying == 0) & ~(judged_again & guard.data_changed)
    convicted = judged_again & ~guard.data_changed
    target = jnp.where(arrives | spent | convicted, -jnp.inf, target)
    falls_back = retried & guard.diverged & (e.log_scale > old.retry_from)
    ruling = RetryRuling(
        begins, rise.astype(jnp.float32), falls_back, old.retry_from - e.log_scale
    )
    return ruling, RetryState(retrying, retry_from, target)
