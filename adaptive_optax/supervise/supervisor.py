"""Judge whether the run is still sound, and decide what to do if it is not.

The evidence of a step is computed once (`evidence`). `start_audit` judges the first
steps, `skip` says how many batches may be left out, and `trial` finds out whose fault
it is. This module combines their rulings into one `Verdict`. The copy that a restore
goes back to is in `rollback`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax._reasons import NOTHING, Reason
from adaptive_optax._types import UNSET, Limits, Standing
from adaptive_optax.law import Law
from adaptive_optax.sense.gradient import Gradient
from adaptive_optax.sense.stage import Seen
from adaptive_optax.supervise import evidence, reasons, skip, start_audit, trial
from adaptive_optax.supervise.evidence import ENDLESS, Levels


class Judges(NamedTuple):
    """The supervisor's memory; all scalars."""

    levels: Levels
    audit: start_audit.AuditState
    trial: trial.TrialState
    skip: skip.SkipState
    keep_wait: jax.Array  # i32[] steps until the next copy is due; < 0: overdue
    trusted_log_scale: jax.Array  # f32[] 0, or less after a failed start

    @property
    def auditing(self) -> jax.Array:
        """Whether the start is being audited, bool[]."""
        return self.audit.audit_left > 0


class Verdict(NamedTuple):
    """What a step's signals mean for the run. Scalars."""

    restore: Any  # bool[] go back now
    repeat: Any  # bool[] the step after one: go back once more
    keep: Any  # bool[] this step's parameters are the new good ones
    healthy: Any  # bool[] these parameters may be averaged
    restart: Any  # bool[] the first parameters return; the average restarts
    forget: Any  # bool[] the data are new: statistics start again
    hold: Any  # bool[] no gain moves
    no_rise: Any  # bool[] the rate may fall but not rise
    correction: Any  # f32[] change of the rate's log scale that this calls for
    reason: Reason  # what was decided, and on which figure

    @property
    def goes_on(self) -> Any:
        """Whether no restore is under way that this step belongs to, bool[]."""
        return ~(self.restore | self.repeat)


SOUND = Verdict(
    restore=np.False_,
    repeat=np.False_,
    keep=np.False_,
    healthy=np.True_,
    restart=np.False_,
    forget=np.False_,
    hold=np.False_,
    no_rise=np.False_,
    correction=np.float32(0.0),
    reason=NOTHING,
)
"""The verdict without a supervisor."""


def init_judges(law: Law) -> Judges:
    """The memory before the first step."""
    return Judges(
        levels=evidence.init_levels(),
        audit=start_audit.init_audit(law),
        trial=trial.init_trial(),
        skip=skip.init_skip(),
        keep_wait=jnp.zeros((), jnp.int32),
        trusted_log_scale=jnp.zeros((), jnp.float32),
    )


def reset_levels(state: Judges, when: jax.Array, law: Law) -> Judges:
    """Forget all levels where ``when``: another objective is judged from now on."""

    def reset(old, value):
        return jnp.where(when, jnp.asarray(value, old.dtype), old)

    fresh = evidence.init_levels()._replace(first_norm=state.levels.first_norm)
    return state._replace(
        levels=jax.tree.map(reset, state.levels, fresh),
        keep_wait=reset(state.keep_wait, law.readings),
        trial=state.trial._replace(strikes=reset(state.trial.strikes, 0)),
    )


def standing(state: Judges, law: Law, restored: jax.Array) -> Standing:
    """The rate's standing before a step."""
    return Standing(
        trusted_log_scale=state.trusted_log_scale - state.trial.owed,
        warming=start_audit.warming(state.audit, law),
        failures=state.audit.audit_failures,
        restored=restored,
    )


def limits(state: Judges, law: Law, count: jax.Array, usual: Gradient) -> Limits:
    """What the next batch must keep to be learnt from."""
    return evidence.limits(
        state.levels,
        law,
        usual,
        auditing=state.auditing,
        room=~state.auditing & skip.room(state.skip, count, law),
    )


def judge(
    state: Judges, seen: Seen, bounds: Limits, log_scale: jax.Array, law: Law
) -> tuple[Verdict, Judges]:
    """Judge one step.

    Args:
      state: The supervisor's memory.
      seen: What the step has brought.
      bounds: The `limits` of this step.
      log_scale: f32[] log of what multiplies the base rate.
      law: The numbers. A larger ``trust`` asks for more opposition before a start
        fails.

    Returns:
      The verdict, and the new state.
    """
    e = evidence.weigh(
        seen,
        bounds,
        state.levels,
        log_scale=log_scale,
        restoring=state.trial.restoring,
        auditing=state.auditing,
        moved=state.trial.moved,
        law=law,
    )
    loss = seen.signals.objective
    start = start_audit.judge(e, state.audit, law)
    ruled, tried = trial.update(
        e,
        state.trial,
        law,
        opposed=start.opposed,
        failed=start.failed,
        may_fail=start.may_fail | ~e.auditing,
        again=state.skip.unsettled > 0,
    )
    late, audited = start_audit.update(
        e, state.audit, law, start, restore=ruled.restore, convicted=ruled.convicted
    )
    skipping = skip.update(e, state.skip, law, seen.far & ~e.repeat)
    correction = ruled.correction + late
    # New data: what a run has learnt of its rate, it has learnt on the old ones.
    step_back = jnp.where(law.trust < ENDLESS, jnp.log(law.half), 0.0)
    back = state.trusted_log_scale + step_back - log_scale
    begins = e.accepted & ~e.auditing
    correction += jnp.where(begins, jnp.minimum(back, 0.0), 0.0)
    correction = correction.astype(jnp.float32)
    healthy = ~e.bad & ~e.repeat & ~ruled.restore
    settled = healthy & loss.arrived & ~e.auditing & e.resting
    settled &= (state.keep_wait <= 0) & (skipping.unsettled == 0)
    # A loss that rises slowly leaves its level behind, but no old copy.
    stale = settled & (state.keep_wait <= -(law.warmup_steps // 2))
    settled &= ~e.known | (loss.fast <= e.good + law.clear * e.fast_error)
    calm = e.seen & e.auditing & ~ruled.restore & ~e.bad
    verdict = Verdict(
        restore=ruled.restore,
        repeat=e.repeat,
        keep=settled | stale,
        healthy=healthy,
        restart=ruled.restore & e.auditing,
        forget=e.accepted,
        hold=skipping.unsettled > 0,
        no_rise=(tried.watched > 0) | (tried.owed > 0),
        correction=correction,
        reason=reasons.of(e, start, audited, ruled, tried),
    )
    after = log_scale + correction
    lowered = (ruled.convicted & e.auditing) | (late < 0)
    trusted = jnp.where(
        lowered, jnp.minimum(state.trusted_log_scale, after), state.trusted_log_scale
    )
    return verdict, Judges(
        levels=evidence.learn(e, state.levels, settled, healthy, calm),
        audit=audited,
        trial=tried,
        skip=skipping,
        keep_wait=jnp.where(
            settled | stale, law.warmup_steps - 1, _wait(state, law)
        ).astype(jnp.int32),
        trusted_log_scale=trusted,
    )


def stay(
    verdict: Verdict, after: Judges, before: Judges, lost: jax.Array
) -> tuple[Verdict, Judges]:
    """Where a parameter is ``lost`` there is no way back, and no good parameters.

    A restore adds, and to NaN nothing can be added. It would be tried again and again,
    and the rate would be cut for it.
    """
    stays = verdict.restore & lost
    ruled = before.trial._replace(strikes=after.trial.strikes)
    trial, audit = jax.tree.map(
        lambda old, new: jnp.where(stays, old, new),
        (ruled, before.audit),
        (after.trial, after.audit),
    )
    return verdict._replace(
        restore=verdict.restore & ~lost,
        restart=verdict.restart & ~lost,
        keep=verdict.keep & ~lost,
        reason=verdict.reason.unless(stays),
    ), after._replace(trial=trial, audit=audit)


def proceed(state: Judges, law: Law, *, nonfinite: jax.Array) -> tuple[Verdict, Judges]:
    """A step without feedback: nothing is judged, a restore under way is finished.

    The audit counts such steps too, but only a step with a loss ends it.
    """
    repeat = state.trial.restoring == 2
    verdict = SOUND._replace(repeat=repeat, healthy=~repeat & ~nonfinite)
    return verdict, state._replace(
        audit=start_audit.proceed(state.audit, nonfinite=nonfinite, repeat=repeat),
        trial=trial.proceed(state.trial, nonfinite=nonfinite),
        keep_wait=_wait(state, law),
    )


def _wait(state: Judges, law: Law) -> jax.Array:
    """Steps until the next copy is due; below 0, how long it has been due."""
    return jnp.maximum(state.keep_wait - 1, -law.warmup_steps)


def warm_up(state: Judges, law: Law) -> jax.Array:
    """Share of the rate that this step takes in the audit, f32[] in (0, 1]."""
    return start_audit.warm_up(state.audit, state.levels.first_value < UNSET, law)
