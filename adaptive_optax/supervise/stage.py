"""The supervisor as a stage of the loop, and a stage that does nothing in its place."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from adaptive_optax import _checks, _trees
from adaptive_optax._types import Limits, Standing
from adaptive_optax.law import Law
from adaptive_optax.sense.stage import Seen
from adaptive_optax.supervise import rollback, supervisor
from adaptive_optax.supervise.supervisor import SOUND, Verdict


class RecoveryState(NamedTuple):
    """State of the supervisor."""

    copy: rollback.CopyState
    remembered: jax.Array  # f32[rows, 8], see `supervisor.Judges`

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
    limits: Callable[..., Limits]  # (state, count) -> what a batch must keep
    update: Callable[..., tuple[Verdict, Standing, Any]]
    share: Callable[[Any], Any]  # state -> share of the rate that the step takes
    inner: Callable[..., Any]  # (before, after, inner_state) -> the one to go on from
    finish: Callable[..., Any]  # (before, after, verdict, params, steps) -> steps


def init_recovery(
    params: Any, inner_state: Any, law: Law, *, dtype: Any = None
) -> RecoveryState:
    """The state before the first step.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      inner_state: The inner optimizer's first state.
      law: Says which parts there are.
      dtype: Of the copies of floating-point arrays; None copies them as they are.
    """
    return RecoveryState(
        copy=rollback.init_copy(params, inner_state, dtype),
        remembered=jax.jit(lambda: _trees.pack(supervisor.init_judges(law)))(),
    )


def unsupervised() -> Supervision:
    """A stage that judges nothing and restores nothing."""

    def update(seen, state, **rest):
        del seen, rest
        return SOUND, Standing(), state

    return Supervision(
        init=lambda params, inner_state: (),
        limits=lambda state, count: Limits(),
        update=update,
        share=lambda state: 1.0,
        inner=lambda before, after, inner_state: inner_state,
        finish=lambda before, after, verdict, params, steps: steps,
    )


def supervised(law: Law, dtype: Any) -> Supervision:
    """The audit, the trial, the budget and the copy that a restore goes back to.

    Args:
      law: The numbers, and which parts there are.
      dtype: Of the copy, or None.
    """
    if _checks.is_infinite(law.trust):  # no cosine is as many errors from 0
        law = law._replace(trust=1e30)

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
        judges, copy = state.judges, state.copy
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
            copy = rollback.keep_copy(copy, verdict.keep, params, inner_state)
        known = supervisor.standing(
            judges, law, verdict.restore | verdict.repeat | verdict.forget
        )
        return verdict, known, RecoveryState(copy, _trees.pack(after))

    def finish(before, after, verdict, params, steps):
        going = verdict.restore | (before.judges.trial.restoring > 0)
        return rollback.go_back(after.copy, going, params, steps)

    return Supervision(
        init=lambda params, inner_state: init_recovery(
            params, inner_state, law, dtype=dtype
        ),
        limits=lambda state, count: supervisor.limits(state.judges, law, count),
        update=update,
        share=lambda state: supervisor.warm_up(state.judges, law),
        inner=lambda before, after, inner_state: rollback.good_inner(
            after.copy, before.judges.trial.restoring, inner_state
        ),
        finish=finish,
    )
