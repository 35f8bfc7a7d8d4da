"""Whose fault is it? One experiment answers: go back, and look again.

A batch that is far outside, or whose gradient is not finite, is not learnt from. So the
next batch meets the same parameters. After five such batches in a row the good
parameters return, and the batch after that decides::

    it is bad too     the data are at fault: the rate stays
    it is sound       an offence: the parameters were bad, or the fault of the data has
                      just ended. The first offence costs nothing else. Another one
                      within 31 steps, or a fifth of the run's age, is the rate's
                      fault, and the rate is cut: to 1/5, then 1/25, then 1/625 of
                      itself. If three cuts do not help, all are taken back.

In the audit of the start every finite batch is learnt from, two bad ones more than good
ones are enough, and only a gradient that is not finite has a first offence free.

Nothing is restored twice in a row: a step has to be taken in between. What was cut is
repaid by sound steps, like t^4. Until then, and while an offence is watched, the rate
does not rise.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.law import Law, Trial
from adaptive_optax.supervise.evidence import Evidence, a_while, one_less


class TrialState(NamedTuple):
    """State of the trial."""

    strikes: jax.Array  # i32[] batches in a row that were not learnt from
    moved: jax.Array  # bool[] a step was taken since the parameters went back
    restoring: jax.Array  # i32[] steps until the parameters are back to the bit
    restores: jax.Array  # i32[] how often the parameters went back
    sentence: jax.Array  # f32[] change of the log scale if the check is sound
    log_scale_before: jax.Array  # f32[] the log scale at the check
    offences: jax.Array  # i32[] in a row
    watched: jax.Array  # f32[] steps left in which another offence counts as the next
    owed: jax.Array  # f32[] log distance that was cut and not repaid


class TrialRuling(NamedTuple):
    """The trial's ruling on a step. Scalars."""

    restore: Any  # bool[]
    convicted: Any  # bool[] the rate is at fault
    correction: Any  # f32[] change of the log scale that this calls for
    strikes: Any  # i32[] bad batches in a row
    patience: Any  # how many are too many
    offended: Any  # bool[] the good parameters are sound, so the bad ones were at fault
    repaid: Any  # f32[] part of the correction that takes a cut back


def init_trial() -> TrialState:
    """The trial before the first step."""
    count, number = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
    return TrialState(
        strikes=count,
        moved=jnp.zeros((), bool),
        restoring=count,
        restores=count,
        sentence=number,
        log_scale_before=number,
        offences=count,
        watched=number,
        owed=number,
    )


def update(
    evidence: Evidence,
    state: TrialState,
    law: Law,
    *,
    opposed: jax.Array,
    failed: jax.Array,
    may_fail: jax.Array,
    again: jax.Array,
) -> tuple[TrialRuling, TrialState]:
    """Judge one step.

    Args:
      evidence: Of the step.
      state: The trial.
      law: The law; its ``trial`` has the numbers.
      opposed: bool[] the start fails, because gradients oppose it.
      failed: f32[] the change of the log scale if a start fails.
      may_fail: bool[] False: the start has failed as often as it may.
      again: bool[] the run has begun again, on new data.
    """
    e, old, c = evidence, state, law.trial or Trial()
    age = e.signals.count.astype(jnp.float32)
    calmer = jnp.where(e.auditing, one_less(old.strikes), 0)
    strikes = jnp.where(e.bad, old.strikes + 1, jnp.where(e.seen, calmer, old.strikes))
    # Of the good parameters themselves nothing is to be proven.
    strikes = jnp.where(old.moved & ~e.repeat, strikes, 0)
    patience = jnp.where(e.auditing, c.start_patience, c.patience)
    out = (strikes >= patience) & may_fail & (law.trial is not None)
    restore = out | opposed

    offences = jnp.where(old.watched > 0, old.offences, 0)
    cut = law.cut * 2.0 ** (offences - 1)
    later = jnp.where(offences <= c.most, cut, 0.0)
    later = jnp.where(offences == c.most + 1, old.owed, later)
    sentence = jnp.where(e.auditing, failed, later)
    excused = (offences == 0) & ~opposed & (~e.auditing | e.nonfinite | again)
    sentence = jnp.where(excused, 0.0, sentence)
    sentence = jnp.where(restore, sentence, old.sentence)

    offended = e.repeat & ~e.bad & e.told
    correction = jnp.where(offended, old.sentence, 0.0)
    # As far as the bounds let the rate fall: more cannot be repaid.
    after = (old.restoring == 1) & (old.sentence != 0)
    cut = jnp.where(after, old.log_scale_before - e.log_scale, 0.0)
    owed = jnp.maximum(old.owed + jnp.where(e.auditing, 0.0, cut), 0.0)
    sound = e.seen & ~e.bad & ~restore & e.resting & ~e.auditing
    pace = c.repay / (age + law.warmup_steps)
    repaid = jnp.where(sound, jnp.minimum(owed, pace), 0.0)
    watched = jnp.where(e.seen & ~e.bad, one_less(old.watched), old.watched)
    taken = ~e.skipped & ~e.repeat & ~restore
    ruling = TrialRuling(
        restore=restore,
        convicted=offended & (correction < 0),
        correction=correction + repaid,
        strikes=strikes,
        patience=patience,
        offended=offended,
        repaid=repaid,
    )
    return ruling, TrialState(
        strikes=jnp.where(restore, 0, strikes),
        moved=jnp.where(restore, False, old.moved | taken),
        restoring=jnp.where(restore, 2, one_less(old.restoring)),
        restores=old.restores + restore,
        sentence=sentence.astype(jnp.float32),
        log_scale_before=jnp.where(e.repeat, e.log_scale, old.log_scale_before),
        offences=offences + offended,
        watched=jnp.where(offended, a_while(e, law), watched),
        owed=owed - repaid,
    )


def proceed(state: TrialState, *, nonfinite: jax.Array) -> TrialState:
    """A step without feedback: a restore under way is finished."""
    return state._replace(
        moved=state.moved | ((state.restoring != 2) & ~nonfinite),
        restoring=one_less(state.restoring),
    )
