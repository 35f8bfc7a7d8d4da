"""Follow the loss: up while it significantly falls, down while it rises.

    delta = log(up)    where  z >  deadzone
            log(down)  where  z < -deadzone
            0          between

with z the loss trend, the drop of the smoothed loss over its standard error.
"""

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, RuleState, Signals
from adaptive_optax.rules import _answer


def trend(
    *, up: float = 1.02, down: float | None = None, deadzone: float = 1.0
) -> Rule:
    """Raise a gain while the loss significantly falls, lower it while it rises.

    With z = ``signals.loss.trend`` the gain is multiplied by ``up`` where
    z > deadzone, by ``down`` where z < -deadzone, and kept between. On pure noise z is
    symmetric, so E[delta] = P(``|z|`` > deadzone) · (log up + log down) / 2, and the
    gain drifts to zero if ``up · down < 1``. The default ``down`` is therefore
    ``1 / up``. A random walk remains: over 10,000 steps of white noise its standard
    deviation in the log was 0.9 at a deadzone of 1, 0.7 at 2 and 0.2 at 3.

    Args:
      up: Factor per step on a significant fall; at least 1.
      down: Factor per step on a significant rise, in (0, 1]; None is ``1 / up``.
      deadzone: How many standard errors are taken for noise; at least 0.

    Returns:
      A `Rule` without state. It holds when no loss came, and at a restore, because the
      trend there is that of the steps that are undone.

    Raises:
      TypeError: If an argument is not a number.
      ValueError: If one is outside its range.

    Example:
      >>> from adaptive_optax import rules
      >>> rule = rules.trend(up=1.05, deadzone=3.0)
      >>> rule.init()
      ()

    References:
      T. P. Vogl et al., *Accelerating the convergence of the back-propagation method*,
      1988, raise the rate by 5 % when the loss fell and cut it by 30 % when it rose
      (the "bold driver"). That rule reads single differences of a full-batch loss. Here
      the difference is of two averages, divided by its standard error, because with
      minibatches every other difference is a rise.
    """
    _checks.within("up", up, 1.0, example="up=1.02")
    if down is not None:
        _checks.within("down", down, 0.0, 1.0, open_low=True, example="down=0.98")
    _checks.within("deadzone", deadzone, 0.0, example="deadzone=1.0")
    lower = 1.0 / up if down is None else down

    def init() -> RuleState:
        return ()

    def update(signals: Signals, state: RuleState) -> tuple[jax.Array, RuleState]:
        z = signals.loss.trend
        heard = _answer.heard(signals.loss.arrived, z)
        delta = _answer.by_vote(_answer.vote(z, deadzone), up, lower)
        allowed = heard & jnp.logical_not(signals.standing.restored)
        return _answer.hold_unless(allowed, delta, state, state)

    return Rule(init, update)
