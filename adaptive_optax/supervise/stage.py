"""The supervisor as a stage of the loop, and the stage that stands in its place."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from adaptive_optax._types import Signals
from adaptive_optax.law import Law
from adaptive_optax.supervise import rollback, supervisor
from adaptive_optax.supervise.supervisor import ACQUITTED, Verdict


class Supervision(NamedTuple):
    """What the loop asks of a supervisor. Where there is none, its state is ()."""

    init: Callable[..., Any]  # (params, inner_state) -> state
    update: Callable[..., tuple[Verdict, Signals, Signals, Any]]
    standing: Callable[[Signals, Any], Signals]  # what is known of the rate
    share: Callable[[Any], Any]  # state -> share of the rate that the step takes
    inner: Callable[..., Any]  # (before, after, inner_state) -> the one to go on from
    finish: Callable[..., Any]  # (before, after, verdict, params, steps) -> steps


def unsupervised() -> Supervision:
    """Nothing is judged, and nothing goes back."""

    def update(signals, objective, state, **rest):
        del rest
        return ACQUITTED, signals, objective, state

    return Supervision(
        init=lambda params, inner_state: (),
        update=update,
        standing=lambda signals, state: signals,
        share=lambda state: 1.0,
        inner=lambda before, after, inner_state: inner_state,
        finish=lambda before, after, verdict, params, steps: steps,
    )


def supervised(law: Law, dtype: Any) -> Supervision:
    """The audit, the guard, the retry and the copy that they go back to.

    Args:
      law: Its numbers, and which parts there are.
      dtype: Of the copy, or None.
    """

    def update(
        signals: Signals,
        objective: Signals,
        state: supervisor.RecoveryState,
        *,
        has_feedback: bool,
        coordinate: jax.Array,
        nonfinite: jax.Array,
        held: jax.Array,
        new_objective: jax.Array,
        params: Any,
        inner_state: Any,
    ) -> tuple[Verdict, Signals, Signals, supervisor.RecoveryState]:
        """One step: the verdict, and the signals with what it tells of the run.

        Args:
          signals: The step's measurements.
          objective: The same with what is judged, the loss or the reward, as the loss.
          state: The supervisor.
          has_feedback: Whether there is anything to judge.
          coordinate: f32[] the rate's, minus where it started.
          nonfinite: bool[].
          held: bool[] no retry is to begin or to climb.
          new_objective: bool[] another objective is judged from this step on.
          params: The parameters.
          inner_state: The inner optimizer's state.
        """
        if not has_feedback:
            verdict, state = supervisor.proceed(state, nonfinite=nonfinite)
            restored = verdict.repeat
        else:
            signals = supervisor.annotate(signals, state, law)
            objective = supervisor.annotate(objective, state, law)
            verdict, state = supervisor.judge(
                supervisor.reset_levels(state, new_objective, law),
                objective,
                coordinate,
                law,
                nonfinite=nonfinite,
                held=held,
            )
            copy = rollback.keep_copy(state.copy, verdict.keep, params, inner_state)
            state = state._replace(copy=copy)
            restored = verdict.restore | verdict.repeat
        signals = signals._replace(restored=restored)
        return verdict, signals, objective._replace(restored=restored), state

    def finish(before, after, verdict, params, steps):
        going = verdict.restore | (before.restoring > 0)
        return rollback.go_back(after.copy, going, params, steps)

    return Supervision(
        init=lambda params, inner_state: supervisor.init_recovery(
            params, inner_state, law, dtype=dtype
        ),
        update=update,
        standing=supervisor.standing,
        share=lambda state: supervisor.warm_up(state, law),
        inner=lambda before, after, inner_state: rollback.good_inner(
            after.copy, before.restoring, inner_state
        ),
        finish=finish,
    )
