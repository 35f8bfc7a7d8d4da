"""Lower the gain in proportion to the run's age while the loss gets nowhere."""

import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule

FORGETFUL = 1 / 3  # of the power where the filter remembers no step
AGREEMENT = 1.0  # standard errors of alignment above which gradients still agree
DRAWN_BACK = 1.0  # standard errors of a heading that points back
SETTLED = 31  # losses since the start or a restore before a level is one
OFFSET = 20.0  # steps added to the age


def settle(*, power: float = 1.5, level: float = 2.0) -> Rule:
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
      power: Exponent of the decay, >= 0; 1/2 and 1 are the classical rates of
        stochastic approximation, 0 never decays.
      level: Standard errors of progress below which the loss is level.

    Returns:
      A `Rule` without state that only ever lowers. It holds during the warm-up, in the
      first 31 steps after a start or a restore, and without a loss.

    Raises:
      ValueError: If ``power`` is negative or not finite, or ``level`` is NaN.

    Example:
      >>> rule = settle(power=1.0)
      >>> rule.init()
      ()

    References:
      Robbins and Monro, A stochastic approximation method, 1951. Georg Pflug, 1983, and
      Lang, Xiao, Zhang, Using statistics to automate stochastic optimization, 2019,
      lower the rate by a factor when a test finds the iterates stationary; here the
      test gates a decay that is slow enough to need no certainty.
    """
    _checks.within("power", power, 0.0, example="settle(power=1.5)")
    _checks.within("level", level, -jnp.inf, example="settle(level=2.0)")

    def init():
        return ()

    def update(signals, state):
        s = signals
        votes = s.has_alignment & (s.alignment_count > 3) & ~s.warming & ~s.restored
        known = s.has_value & (s.loss_count >= SETTLED)
        still = known & (s.loss_progress < level)
        apart = s.alignment_slow < AGREEMENT * s.alignment_slow_sem
        drawn_back = s.heading < -DRAWN_BACK * s.heading_sem
        exponent = jnp.where(s.persistence > 0, power, FORGETFUL * power)
        pace = exponent / (s.count.astype(jnp.float32) + OFFSET)
        delta = jnp.where(votes & still & apart & drawn_back, -pace, 0.0)
        return delta.astype(jnp.float32), state

    return Rule(init, update)
