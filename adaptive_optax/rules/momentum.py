"""More memory while gradients agree with the steps, a restart when they oppose them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, Signals
from adaptive_optax.law import Law, Nudge, checked
from adaptive_optax.rules import _answer

AGREEMENT, OPPOSITION = 0.4, 0.2


class MomentumRuleState(NamedTuple):
    """State of `momentum`."""

    momentum_armed: jax.Array  # bool[] gradients have agreed since the last restart
    momentum_restarts: jax.Array  # i32[] how often the buffer was to be emptied


def momentum(
    law: Law = Law(),  # noqa: B008
    *,
    agreement: float = AGREEMENT,
    opposition: float = OPPOSITION,
) -> Rule:
    """Lengthen the momentum's horizon on agreement; on opposition halve it and restart.

    For the momentum, in the log of its horizon H = 1 / (1 - mu). With c the averaged
    alignment over a short horizon, e its standard error, and m the log of H over its
    start::

        longer    m <- m + rate                if c > agreement  and  c > clear e
        reversal  m <- m - min(log 2, m), and the buffer is emptied
                                               if c < -opposition  and  c < -clear e
                                               and c was positive since the last one

    Without noise a longer memory is what an ill-conditioned problem lacks: the steps
    across a narrow valley cancel, and the rate can rise along it. Its price is that the
    filter runs past the minimum and swings back. A swing shows as a gradient that
    opposes the steps, and a restart ends it: the buffer starts at zero and gathers the
    new direction. The horizon is never below its start.

    With minibatches a single gradient says little of the direction. Its cosine with the
    step is small, so both thresholds are on the cosine itself and not only in standard
    errors: an average over many steps makes the smallest cosine significant.

    The size of a step does not depend on the path of mu: see `filters` and
    `act.momentum_shadow`. So a longer memory alone lengthens no step, and the rate's
    own law decides whether it can rise.

    Args:
      law: Its numbers: ``nudge.rate`` is the growth a step, > 0; ``clear`` the standard
        errors; ``half`` what a reversal leaves of the horizon.
      agreement: Cosine above which the horizon grows, in [0, 1].
      opposition: Cosine below whose negative it is a reversal, in [0, 1].

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
      the momentum starts again where a gradient opposes a step. There it always grows
      like Nesterov's sequence; here only while gradients agree, and a reversal is
      judged on an average. Zhang and Mitliagkas, YellowFin and the art of momentum
      tuning, 2019, set mu from the range of curvatures.
    """
    c = checked(law).nudge or Nudge()
    _checks.positive("rate", c.rate, example="momentum(Law(nudge=Nudge(rate=0.02)))")
    for name, value in (("agreement", agreement), ("opposition", opposition)):
        _checks.within(name, value, 0.0, 1.0, example=f"momentum({name}=0.3)")

    def init() -> MomentumRuleState:
        return MomentumRuleState(
            momentum_armed=jnp.ones((), bool),
            momentum_restarts=jnp.zeros((), jnp.int32),
        )

    def update(
        signals: Signals, state: MomentumRuleState
    ) -> tuple[jax.Array, MomentumRuleState]:
        cosine, error = signals.alignment.mean, signals.alignment.sem
        longer = (cosine > agreement) & (cosine > law.clear * error)
        opposed = (cosine < -opposition) & (cosine < -law.clear * error)
        reversal = opposed & state.momentum_armed
        beyond = jnp.maximum(signals.standing.log_scale, 0.0)
        fall = jnp.minimum(-_answer.log(law.half), beyond)
        delta = jnp.where(longer, c.rate, jnp.where(reversal, -fall, 0.0))
        return _answer.hold_unless(
            _answer.may_vote(signals),
            delta.astype(jnp.float32),
            MomentumRuleState(
                momentum_armed=~reversal & (state.momentum_armed | (cosine > 0)),
                momentum_restarts=state.momentum_restarts + reversal,
            ),
            state,
        )

    return Rule(init, update)
