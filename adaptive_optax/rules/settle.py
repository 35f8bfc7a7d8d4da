"""Lower the gain in proportion to the run's age while the loss gets nowhere."""

import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule
from adaptive_optax.law import Law, Settle


def settle(
    config: Settle = Settle(),  # noqa: B008
    *,
    level_after: int = Law().level_after,
) -> Rule:
    """Decay like t^-power while the loss is level at the run's own age.

    With z the progress of the loss, c the long averaged alignment, e its error, a the
    heading, e_a its error and p the persistence of the steps::

        delta = -q / (t + 20)   if z < level  and  c < e  and  a < -e_a
        q     = power           if p > 0, else power / 3

    A rate at which noisy gradients no longer agree and the loss no longer falls holds
    the parameters at a distance from the minimum; a lower one lets them in. When that
    makes the loss fall again, z rises and the decay pauses, so the rate is never
    lowered faster than the run can use. In proportion to the age, nothing has to be
    known about when training ends, and a pause of ten steps costs little at any age.

    Parameters that wander about a minimum are drawn back to where they have been: the
    heading is negative. On a plateau that has yet to be left the loss is as level, but
    little draws them, and a lower rate would only stay there longer.

    Gradients oppose the steps of a filter without memory at every rate, so there the
    second condition always holds and says nothing; AdaGrad decays by itself as well.
    Hence the third of the power.

    Args:
      config: Its numbers. ``power`` is the exponent of the decay, >= 0; 1/2 and 1 are
        the classical rates of stochastic approximation, 0 never decays; ``level`` the
        standard errors of progress below which the loss is level.
      level_after: Losses since the start or a restore before it votes.

    Returns:
      A `Rule` without state that only ever lowers. It holds during the warm-up, in the
      first 31 steps after a start or a restore, and without a loss.

    Raises:
      ValueError: If ``power`` is negative or not finite, or ``level`` is NaN.

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
    _checks.within("power", c.power, 0.0, example="settle(Settle(power=1.5))")
    _checks.within("level", c.level, -jnp.inf, example="settle(Settle(level=2.0))")

    def init():
        return ()

    def update(signals, state):
        s = signals
        votes = s.has_alignment & (s.alignment_count > 3) & ~s.warming & ~s.restored
        known = s.has_value & (s.loss_count >= level_after)
        still = known & (s.loss_progress < c.level)
        apart = s.alignment_slow < c.agreement * s.alignment_slow_sem
        drawn_back = s.heading < -c.drawn_back * s.heading_sem
        exponent = jnp.where(s.persistence > 0, c.power, c.forgetful * c.power)
        pace = exponent / (s.count.astype(jnp.float32) + c.offset)
        delta = jnp.where(votes & still & apart & drawn_back, -pace, 0.0)
        return delta.astype(jnp.float32), state

    return Rule(init, update)
