"""Lower the gain in proportion to the run's age while the loss is level."""

import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._reasons import EventKind, because, first_of
from adaptive_optax._types import Rule, reasoned
from adaptive_optax.law import Law, Settle, checked
from adaptive_optax.rules import _answer


def settle(law: Law = Law()) -> Rule:  # noqa: B008
    """Decay like t^-power while the loss is level at the run's own age.

    With z the objective's long trend, c the long averaged alignment, e its error, a the
    heading, e_a its error, p the step correlation and t the step::

        delta = -power / (t + 20)   if (z < 2 or beyond) and c < e and a < -e_a
        beyond = c < -trust e  and  a < -trust e_a

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

    Args:
      law: Its numbers. ``settle.power`` is the exponent of the decay, >= 0; 1/2 and 1
        are the classical rates of stochastic approximation, 0 never decays.

    Returns:
      A `Rule` without state that only lowers the gain. It holds during the warm-up, in
      the first 31 steps after a start or a restore, and without a loss.

    Raises:
      TypeError: If ``law`` is no `Law`.
      ValueError: If the power is negative or not finite, or the trust negative.

    Example:
      >>> from adaptive_optax.law import Law, Settle
      >>> rule = settle(Law(settle=Settle(power=1.0)))
      >>> rule.init()
      ()

    References:
      Robbins and Monro, A stochastic approximation method, 1951. Georg Pflug, 1983, and
      Lang, Xiao, Zhang, Using statistics to automate stochastic optimization, 2019,
      lower the rate by a factor when a test finds the iterates stationary; here the
      test gates a decay that is slow enough to need no certainty.
    """
    c = checked(law).settle or Settle()
    _checks.evidence("law.trust", law.trust, example="settle(Law(trust=6.0))")
    _checks.within(
        "power", c.power, 0.0, example="settle(Law(settle=Settle(power=1.5)))"
    )

    def init():
        return ()

    def why(signals, state):
        agreement, heading = signals.alignment, signals.heading
        judged = signals.objective
        known = judged.arrived & (judged.count >= law.level_after)
        # Without noise no loss is ever level: there the gradients decide alone.
        beyond = agreement.slow < -law.trust * agreement.slow_sem
        beyond &= heading.slow < -law.trust * heading.slow_sem
        still = known & ((judged.long_trend < law.clear) | beyond)
        apart = agreement.slow < law.hint * agreement.slow_sem
        drawn_back = heading.slow < -law.hint * heading.slow_sem
        pace = c.power / (signals.count.astype(jnp.float32) + law.warmup_steps)
        lowers = _answer.may_vote(signals) & still & apart & drawn_back
        reason = first_of(
            because(
                judged.long_trend < law.clear,
                EventKind.DECAYED,
                judged.long_trend,
                law.clear,
            ),
            because(
                beyond,
                EventKind.OPPOSED,
                agreement.slow,
                -law.trust * agreement.slow_sem,
            ),
        )
        return jnp.where(lowers, -pace, 0.0).astype(jnp.float32), state, reason

    return reasoned(init, why)
