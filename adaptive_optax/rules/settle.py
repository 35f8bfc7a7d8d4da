"""Lower the gain in proportion to the run's age while the loss is level."""

from typing import Any

import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule
from adaptive_optax.law import Law, Settle
from adaptive_optax.rules import _answer

LAW = Law()


def settle(
    config: Settle = Settle(),  # noqa: B008
    *,
    level_after: int = LAW.level_after,
    trust: Any = LAW.trust,
) -> Rule:
    """Decay like t^-power while the loss is level at the run's own age.

    With z the objective's long trend, c the long averaged alignment, e its error, a the
    heading, e_a its error, p the step correlation and t the step::

        delta = -q / (t + 20)   if (z < max_long_trend or beyond) and c < e and a < -e_a
        beyond = c < -trust e  and  a < -trust e_a
        q     = power           if p > 0 or beyond, else power / 3

    If gradients no longer agree and the loss no longer falls, noise keeps the
    parameters at a distance from the minimum, and a lower rate brings them closer. When
    the loss then falls again, z rises and the decay pauses. So the rate is never
    lowered faster than the run can use. The decay is in proportion to the age, so the
    end of training need not be known, and ten wrong steps cost little at any age.

    Parameters that wander about a minimum are drawn back to where they have been, so
    their heading is negative. On a plateau the loss is as level, but the heading is not
    negative, and a lower rate would only keep the run there longer.

    Without noise no loss is ever level: the smallest fall is significant. There steps
    that zigzag at a rate that is too high are opposed beyond any doubt, at this step
    and over the whole way, and that alone lowers the rate.

    Gradients oppose the steps of a filter without memory at every rate, so there the
    second condition always holds and says nothing. AdaGrad also decays by itself. So
    these filters have a third of the power.

    Args:
      config: Its numbers. ``power`` is the exponent of the decay, >= 0; 1/2 and 1 are
        the classical rates of stochastic approximation, 0 never decays.
        ``max_long_trend`` is the long trend, in standard errors, below which the loss
        is level.
      level_after: Losses that it waits for after a start or a restore.
      trust: Standard errors of an opposition that needs no level loss, >= 0.

    Returns:
      A `Rule` without state that only lowers the gain. It holds during the warm-up, in
      the first 31 steps after a start or a restore, and without a loss.

    Raises:
      ValueError: If ``power`` or the trust is negative, ``power`` is not finite, or
        ``max_long_trend`` is NaN.

    Example:
      >>> from adaptive_optax.law import Settle
      >>> rule = settle(Settle(power=1.0))
      >>> rule.init()
      ()

    References:
      Robbins and Monro, A stochastic approximation method, 1951. Georg Pflug, 1983, and
      Lang, Xiao, Zhang, Using statistics to automate stochastic optimization, 2019,
      lower the rate by a factor when a test finds the iterates stationary; here the
      test gates a decay that is slow enough to need no certainty.
    """
    c = config
    _checks.evidence("trust", trust, example="settle(trust=6.0)")
    _checks.within("power", c.power, 0.0, example="settle(Settle(power=1.5))")
    _checks.within(
        "max_long_trend",
        c.max_long_trend,
        -jnp.inf,
        example="settle(Settle(max_long_trend=2.0))",
    )

    def init():
        return ()

    def update(signals, state):
        agreement, heading = signals.alignment, signals.heading
        judged = signals.objective
        known = judged.arrived & (judged.count >= level_after)
        # Without noise no loss is ever level: there the gradients decide alone.
        beyond = agreement.slow < -trust * agreement.slow_sem
        beyond &= heading.slow < -trust * heading.slow_sem
        still = known & ((judged.long_trend < c.max_long_trend) | beyond)
        apart = agreement.slow < c.agreement * agreement.slow_sem
        drawn_back = heading.slow < -c.drawn_back * heading.slow_sem
        carries = signals.step_correlation.mean > 0
        exponent = jnp.where(carries | beyond, c.power, c.forgetful * c.power)
        pace = exponent / (signals.count.astype(jnp.float32) + c.offset)
        lowers = _answer.may_vote(signals) & still & apart & drawn_back
        return jnp.where(lowers, -pace, 0.0).astype(jnp.float32), state

    return Rule(init, update)
