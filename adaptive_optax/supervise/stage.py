"""The supervisor as a stage of the loop, and a stage that does nothing in its place."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks, _containers, _trees
from adaptive_optax._reasons import NOTHING, EventKind, Reason, because
from adaptive_optax._types import UNSET, Limits, Standing
from adaptive_optax.law import Law
from adaptive_optax.sense import series
from adaptive_optax.sense.gradient import Gradient
from adaptive_optax.sense.sensor import SensorState
from adaptive_optax.sense.stage import Seen
from adaptive_optax.supervise import lost, rollback, supervisor
from adaptive_optax.supervise.evidence import ENDLESS
from adaptive_optax.supervise.recovery import Recovery
from adaptive_optax.supervise.supervisor import SOUND, Verdict


class RecoveryState(NamedTuple):
    """State of the supervisor."""

    copy: rollback.CopyState
    remembered: jax.Array  # f32[rows, 8], see `supervisor.Judges`
    lost_entries: jax.Array  # i32[leaves] finite no more, as far as was seen
    constant_nonfinite: jax.Array  # i32[leaves] not finite from the start

    @property
    def judges(self) -> supervisor.Judges:
        """The supervisor's memory, unpacked, by its names."""
        return judges_of(_trees.scalar_of(self.remembered))


def judges_of(remembered: jax.Array) -> supervisor.Judges:
    """The entries of the packed memory; leading axes of a batch stay."""
    return _trees.unpack(remembered, jax.eval_shape(supervisor.init_judges, Law()))


class Supervision(NamedTuple):
    """What the loop calls of a supervisor. Without a supervisor the state is ()."""

    init: Callable[..., Any]  # (params, inner_state) -> state
    limits: Callable[..., Limits]  # (state, sensor) -> what a batch must keep
    update: Callable[..., tuple[Verdict, Standing, Any]]
    share: Callable[[Any], Any]  # state -> share of the rate that the step takes
    # (before, after, params, inner_state) -> the one to go on from
    inner: Callable[..., Any]
    finish: Callable[..., Any]  # (before, after, verdict, params, steps) -> steps
    lost: Callable[[Any, Any], Reason]  # (before, after) -> are there lost parameters


def init_recovery(
    params: Any,
    inner_state: Any,
    law: Law,
    config: Recovery = Recovery(),  # noqa: B008
) -> RecoveryState:
    """The state before the first step.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      inner_state: The inner optimizer's first state.
      law: Says which parts there are.
      config: What is copied, and where to.
    """
    constant = lost.nonfinite(params)
    return RecoveryState(
        copy=rollback.init_copy(params, inner_state, config),
        remembered=jax.jit(lambda: _trees.pack(supervisor.init_judges(law)))(),
        lost_entries=jnp.zeros_like(constant),
        constant_nonfinite=constant,
    )


def unsupervised() -> Supervision:
    """A stage that judges nothing and restores nothing."""

    def update(seen, state, **rest):
        del seen, rest
        return SOUND, Standing(), state

    return Supervision(
        init=lambda params, inner_state: (),
        limits=lambda state, sensor: Limits(),
        update=update,
        share=lambda state: 1.0,
        inner=lambda before, after, params, inner_state: inner_state,
        finish=lambda before, after, verdict, params, steps: steps,
        lost=lambda before, after: NOTHING,
    )


def supervised(
    law: Law, config: Recovery, init_inner: Callable[[Any], Any]
) -> Supervision:
    """The audit, the trial, the budget and the copy that a restore goes back to.

    Args:
      law: The numbers, and which parts there are.
      config: What is copied, and where to.
      init_inner: The inner optimizer's ``init``, for a copy without its state.
    """
    if _checks.is_infinite(law.trust):
        law = law._replace(trust=ENDLESS)

    def update(
        seen: Seen,
        state: RecoveryState,
        *,
        limits: Limits,
        log_scale: jax.Array,
        params: Any,
        inner_state: Any,
    ) -> tuple[Verdict, Standing, RecoveryState]:
        """One step: the verdict, and what is known of the rate.

        Args:
          seen: What the step has brought.
          state: The supervisor.
          limits: Those of this step.
          log_scale: f32[] of the rate.
          params: The parameters.
          inner_state: The inner optimizer's state.
        """
        _containers.check_parts(state, ["copy"])
        judges, copy, gone = state.judges, state.copy, state.lost_entries
        rollback.check_copy(copy, params, inner_state, config)
        if not seen.has_feedback:
            verdict, after = supervisor.proceed(judges, law, nonfinite=seen.nonfinite)
        else:
            verdict, after = supervisor.judge(
                supervisor.reset_levels(judges, seen.new_objective, law),
                seen,
                limits,
                log_scale,
                law,
            )
            look = verdict.keep | verdict.restore | jnp.any(gone > 0)
            gone = lost.entries(params, state.constant_nonfinite, look)
            verdict, after = supervisor.stay(verdict, after, judges, jnp.any(gone > 0))
            copy = rollback.keep_copy(copy, verdict.keep, params, inner_state, config)
        known = supervisor.standing(
            judges, law, verdict.restore | verdict.repeat | verdict.forget
        )
        return (
            verdict,
            known,
            state._replace(copy=copy, remembered=_trees.pack(after), lost_entries=gone),
        )

    def finish(before, after, verdict, params, steps):
        going = verdict.restore | (before.judges.trial.restoring > 0)
        return rollback.go_back(after.copy, going, params, steps, config)

    return Supervision(
        init=lambda params, inner_state: init_recovery(
            params, inner_state, law, config
        ),
        limits=lambda state, sensor: _limits(state.judges, sensor, law),
        update=update,
        share=lambda state: supervisor.warm_up(state.judges, law),
        inner=lambda before, after, params, inner_state: rollback.good_inner(
            after.copy,
            before.judges.trial.restoring,
            inner_state,
            config,
            fresh=lambda: init_inner(params),
        ),
        finish=finish,
        lost=_lost,
    )


def _limits(judges: supervisor.Judges, sensor: SensorState, law: Law) -> Limits:
    """Those of the next step. A rare reward comes with a gradient that is as rare."""
    bounds = supervisor.limits(
        judges, law, sensor.signal_count, Gradient(*sensor.gradient)
    )
    rewarded = series.Bank(*sensor.series).begun[series.REWARD] > 0
    rewarded &= judges.levels.good_value < UNSET
    good = jnp.where(rewarded, judges.levels.good_value, 0.0)
    better = good - law.clear * judges.levels.good_noise
    return bounds._replace(better=jnp.where(rewarded, better, -UNSET))


def _lost(before: RecoveryState, after: RecoveryState) -> Reason:
    """More parameters have entries that are not finite any more."""
    counts = [
        jnp.sum(state.lost_entries > 0, dtype=jnp.float32) for state in (after, before)
    ]
    return because(counts[0] > counts[1], EventKind.LOST, *counts)
