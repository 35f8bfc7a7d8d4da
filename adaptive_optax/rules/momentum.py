"""More memory while gradients agree with the steps, a restart when they oppose them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, Signals
from adaptive_optax.law import Law, Nudge, checked
from adaptive_optax.rules import _answer

AGREEMENT = 0.4
LONG = 0.95  # step correlation of a memory over some 20 steps


class MomentumRuleState(NamedTuple):
    """State of `momentum`."""

    momentum_opposed: jax.Array  # i32[] gradients in a row that opposed their step
    momentum_restarts: jax.Array  # i32[] how often the buffer was to be emptied


def momentum(
    law: Law = Law(),  # noqa: B008
    *,
    agreement: float = AGREEMENT,
    opposed: int | None = None,
) -> Rule:
    """Lengthen the momentum's horizon on agreement; on opposition halve it and restart.

    For the momentum, in the log of its horizon H = 1 / (1 - mu). With c_t the alignment
    of one step, c its mean over a short horizon, e the standard error, and m the log of
    H over its start::

        longer    m <- m + rate               if c > agreement  and  c > clear e
        reversal  m <- m - min(log 2, m), and the buffer is emptied
                                              if c_t < 0 at ``opposed`` steps in a row
                                              and p > .95

    with p the step correlation; and neither, unless more than half of the recent losses
    (``success``) were better than their slow mean by more than the noise.

    Without noise a longer memory is what an ill-conditioned problem lacks: the steps
    across a narrow valley cancel, and the rate can rise along it. Its price is that the
    filter runs past the minimum and swings back. A swing shows as gradients that oppose
    the steps for a while, and a restart ends it: the buffer starts at zero and gathers
    the new direction. The horizon is never below its start.

    A short memory forgets by itself, and a restart would only cost it its speed. The
    step correlation shows how long the memory is: under noise it is mu.

    Minibatches must change nothing, which is what success is for. A single gradient
    then says little of the direction, and a threshold in standard errors alone would be
    passed by the smallest cosine in the end. Noise pushes a long memory to and fro, and
    a restart would throw away what the memory is for.

    The size of a step does not depend on the path of mu: see `filters` and
    `act.momentum_shadow`. So a longer memory alone lengthens no step, and the rate's
    own law decides whether it can rise.

    Args:
      law: Its numbers: ``nudge.rate`` is the growth a step, > 0; ``clear`` the standard
        errors; ``half`` what a reversal leaves of the horizon, and the share
        of successes that both need.
      agreement: Cosine above which the horizon grows, in [0, 1]; 1 never.
      opposed: Steps in a row that make a reversal, >= 1; by default the ``readings`` of
        the law.

    Returns:
      A `Rule`. ``momentum_restarts`` in its state asks the loop for restarts, see
      `act.restart`. It holds where no alignment could be measured, in the warm-up and
      at a restore.

    Raises:
      TypeError: If ``law`` is no `Law`.
      ValueError: If a number lies outside its range.

    Example:
      >>> import optax
      >>> import adaptive_optax as ao
      >>> tx = ao.adaptive_scheduler(
      ...     optax.adam, 1e-3, momentum_rule=ao.rules.momentum()
      ... )

    References:
      O'Donoghue and Candes, Adaptive restart for accelerated gradient schemes, 2015:
      the momentum starts again where one gradient opposes a step, and always grows like
      Nesterov's sequence. Here noise may oppose a gradient or some, and it grows only
      while they agree. Zhang and Mitliagkas, YellowFin and the art of momentum tuning,
      2019, set mu from the range of curvatures.
    """
    c = checked(law).nudge or Nudge()
    _checks.positive("rate", c.rate, example="momentum(Law(nudge=Nudge(rate=0.02)))")
    _checks.within("agreement", agreement, 0.0, 1.0, example="momentum(agreement=0.3)")
    longest = law.readings if opposed is None else opposed
    if not _checks.is_traced(longest):
        _checks.within("opposed", longest, 1, example="momentum(opposed=8)")

    def init() -> MomentumRuleState:
        return MomentumRuleState(
            momentum_opposed=jnp.zeros((), jnp.int32),
            momentum_restarts=jnp.zeros((), jnp.int32),
        )

    def update(
        signals: Signals, state: MomentumRuleState
    ) -> tuple[jax.Array, MomentumRuleState]:
        cosine, error = signals.alignment.mean, signals.alignment.sem
        quiet = signals.objective.success > law.half
        longer = quiet & (cosine > agreement) & (cosine > law.clear * error)
        run = jnp.where(signals.alignment.value < 0, state.momentum_opposed + 1, 0)
        long = signals.step_correlation.mean > LONG
        reversal = quiet & long & (run >= longest)
        beyond = jnp.maximum(signals.standing.log_scale, 0.0)
        fall = jnp.minimum(-_answer.log(law.half), beyond)
        delta = jnp.where(reversal, -fall, jnp.where(longer, c.rate, 0.0))
        return _answer.hold_unless(
            _answer.heard(
                _answer.may_vote(signals),
                *(cosine, error, signals.alignment.value),
                *(signals.objective.success, signals.step_correlation.mean),
            ),
            delta.astype(jnp.float32),
            MomentumRuleState(
                momentum_opposed=jnp.where(reversal, 0, run).astype(jnp.int32),
                momentum_restarts=state.momentum_restarts + reversal.astype(jnp.int32),
            ),
            state,
        )

    return Rule(init, update)
