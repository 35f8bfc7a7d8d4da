"""Judge whether the run is still sound, and decide what to do if it is not.

The evidence of a step is computed once (`evidence`). Three small state machines rule on
it: `start_audit`, then `divergence_guard`, and `retry` on a rate that may have been
sound although its start failed. This module combines their rulings into one `Verdict`.
The copy that a restore goes back to is in `rollback`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax._types import Signals, Standing
from adaptive_optax.law import Audit, Guard, Law
from adaptive_optax.supervise import divergence_guard, evidence, retry, start_audit
from adaptive_optax.supervise.evidence import Evidence, Levels, one_less


class Judges(NamedTuple):
    """The supervisor's memory; all scalars."""

    levels: Levels
    audit: start_audit.AuditState
    guard: divergence_guard.GuardState
    retry: retry.RetryState
    keep_wait: jax.Array  # i32[] steps until the next copy is due
    strikes: jax.Array  # i32[]
    restoring: jax.Array  # i32[] steps until the parameters are back to the bit
    restores: jax.Array  # i32[] how often the parameters went back
    trusted_log_scale: jax.Array  # f32[] see `Standing`
    diverged_log_scale: jax.Array  # f32[] see `Standing`


class Verdict(NamedTuple):
    """What a step's signals mean for the run. Scalars."""

    restore: Any  # bool[] go back now
    repeat: Any  # bool[] the step after one: go back once more
    keep: Any  # bool[] this step's parameters are the new good ones
    healthy: Any  # bool[] these parameters may be averaged
    restart: Any  # bool[] the first parameters return; the average restarts
    correction: Any  # f32[] change of the rate's log scale that this calls for
    min_rise: Any  # f32[] it rises by at least this, within the slew limit


SOUND = Verdict(
    restore=np.False_,
    repeat=np.False_,
    keep=np.False_,
    healthy=np.True_,
    restart=np.False_,
    correction=np.float32(0.0),
    min_rise=np.float32(0.0),
)
"""The verdict without a supervisor."""


def init_judges(law: Law) -> Judges:
    """The memory before the first step."""
    return Judges(
        levels=evidence.init_levels(),
        audit=start_audit.init_audit(law.audit),
        guard=divergence_guard.init_guard(),
        retry=retry.init_retry(),
        keep_wait=jnp.zeros((), jnp.int32),
        strikes=jnp.zeros((), jnp.int32),
        restoring=jnp.zeros((), jnp.int32),
        restores=jnp.zeros((), jnp.int32),
        trusted_log_scale=jnp.zeros((), jnp.float32),
        diverged_log_scale=jnp.asarray(jnp.inf, jnp.float32),
    )


def reset_levels(state: Judges, when: jax.Array, law: Law) -> Judges:
    """Forget all levels where ``when``: another objective is judged from now on."""

    def reset(old, value):
        return jnp.where(when, jnp.asarray(value, old.dtype), old)

    fresh = evidence.init_levels()._replace(first_norm=state.levels.first_norm)
    return state._replace(
        levels=jax.tree.map(reset, state.levels, fresh),
        keep_wait=reset(state.keep_wait, (law.audit or Audit()).calm_changes),
        strikes=reset(state.strikes, 0),
        retry=state.retry._replace(retrying=reset(state.retry.retrying, 0)),
    )


def standing(state: Judges, law: Law, restored: jax.Array) -> Standing:
    """The rate's standing before a step."""
    return Standing(
        trusted_log_scale=state.trusted_log_scale,
        diverged_log_scale=state.diverged_log_scale,
        warming=start_audit.warming(state.audit, law.audit or Audit()),
        failures=state.audit.audit_failures,
        restored=restored,
    )


def judge(
    state: Judges,
    signals: Signals,
    log_scale: jax.Array,
    law: Law,
    *,
    nonfinite: jax.Array,
    held: bool | jax.Array = False,
) -> tuple[Verdict, Judges]:
    """Judge one step.

    Args:
      state: The supervisor's memory.
      signals: The step's measurements.
      log_scale: f32[] log of what multiplies the base rate.
      law: The numbers. A larger ``trust`` asks for more opposition before a start
        fails.
      nonfinite: bool[] the loss, reward or gradient came and was not finite.
      held: bool[] no retry may begin or climb.

    Returns:
      The verdict, and the new state.
    """
    loss, checking = signals.objective, state.guard.checking_restore
    e = evidence.weigh(
        signals,
        state.levels,
        law,
        log_scale=log_scale,
        held=held,
        nonfinite=nonfinite,
        restoring=state.restoring,
        strikes=state.strikes,
        auditing=state.audit.audit_left > 0,
        untouched=start_audit.untouched(
            state.audit, state.strikes, law.audit or Audit()
        ),
        retrying=state.retry.retrying > 0,
    )
    start, audited = start_audit.update(e, state.audit, law)
    later, guarded = divergence_guard.update(
        e, state.guard, state.trusted_log_scale, law
    )
    to_start = start.failed | start.replay_start
    restore = to_start | later.diverged
    healthy = ~e.suspicious & ~nonfinite & ~e.repeat & ~restore & (e.strikes == 0)
    free = healthy & loss.arrived & ~e.auditing & e.resting
    again, retried = retry.update(
        e, state.retry, start, later, law, checking_restore=checking, free=free
    )
    settled = free & (state.keep_wait == 0)
    settled &= ~e.known | (loss.fast <= e.good + law.keep_within * e.fast_error)
    settled |= again.begins
    correction = (start.correction + later.correction).astype(jnp.float32)
    correction = jnp.where(again.falls_back, again.fall, correction)

    levels = evidence.learn(
        e, state.levels, settled, healthy, calm=e.seen & e.auditing & ~restore
    )
    verdict = Verdict(
        restore, e.repeat, settled, healthy, to_start, correction, again.min_rise
    )
    # After a restore is checked, the next healthy loss sets the level.
    good_value = jnp.where(checking, jnp.inf, levels.good_value)
    trusted, diverged = _standing(
        e, state, start, later, again, log_scale + correction, law
    )
    return verdict, Judges(
        levels=levels._replace(good_value=good_value),
        audit=audited,
        guard=guarded,
        retry=retried,
        keep_wait=jnp.where(
            settled, law.keep_every - 1, one_less(state.keep_wait)
        ).astype(jnp.int32),
        strikes=jnp.where(restore, 0, e.strikes),
        restoring=jnp.where(restore, 2, one_less(state.restoring)),
        restores=state.restores + restore,
        trusted_log_scale=trusted,
        diverged_log_scale=diverged,
    )


def _standing(
    e: Evidence,
    old: Judges,
    start: start_audit.AuditRuling,
    later: divergence_guard.GuardRuling,
    again: retry.RetryRuling,
    after: jax.Array,
    law: Law,
) -> tuple[jax.Array, jax.Array]:
    """The trusted log scale, and the one above which the run diverged."""
    lowered = start.failed | start.replay_start | (later.diverged & ~again.falls_back)
    trusted = jnp.where(
        lowered | start.passed_late,
        jnp.minimum(old.trusted_log_scale, after),
        jnp.where(later.data_changed, old.guard.trusted_before, old.trusted_log_scale),
    )
    above = jnp.where(
        later.diverged & ~again.falls_back,
        e.log_scale - (law.guard or Guard()).ceiling_below,
        jnp.where(later.data_changed, jnp.inf, old.diverged_log_scale),
    )
    return trusted, above


def proceed(state: Judges, *, nonfinite: jax.Array) -> tuple[Verdict, Judges]:
    """A step without feedback: nothing is judged, a restore under way is finished.

    The audit counts such steps too, but only a step with a loss ends it.
    """
    repeat = state.restoring == 2
    verdict = SOUND._replace(repeat=repeat, healthy=~repeat)
    return verdict, state._replace(
        audit=start_audit.proceed(
            state.audit, nonfinite=nonfinite, repeat=repeat, strikes=state.strikes
        ),
        restoring=one_less(state.restoring),
        keep_wait=one_less(state.keep_wait),
    )


def warm_up(state: Judges, law: Law) -> jax.Array:
    """Share of the rate that this step takes in the audit, f32[] in (0, 1]."""
    return start_audit.warm_up(
        state.audit, jnp.isfinite(state.levels.first_value), law.audit or Audit()
    )
