"""Follow the reward: up while it significantly rises, down while it falls.

    delta = log(up)    where  z >  deadzone
            log(down)  where  z < -deadzone
            0          between

with z the reward trend, the rise of the smoothed reward over its standard error.
"""

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, RuleState, Signals
from adaptive_optax.rules import _answer


def reward(
    *, up: float = 1.02, down: float | None = None, deadzone: float = 1.0
) -> Rule:
    """Raise a gain while the reward significantly rises, lower it while it falls.

    With z = ``signals.reward.trend`` (positive means better) the gain is multiplied by
    ``up`` where z > deadzone, by ``down`` where z < -deadzone, and kept between.

    Args:
      up: Factor per step on a significant rise of the reward; at least 1.
      down: Factor per step on a significant fall, in (0, 1]; None is ``1 / up``, with
        which the gain does not drift while a noisy reward is level.
      deadzone: How many standard errors are taken for noise; at least 0.

    Returns:
      A `Rule` without state. It holds when no reward came, and at a restore.

    Raises:
      TypeError: If an argument is not a number.
      ValueError: If one is outside its range.

    Example:
      >>> from adaptive_optax import blend, rules
      >>> law = blend(rules.trend(), rules.reward(), weights=(1, 3))

    References:
      M. Bowling and M. Veloso, *Multiagent learning using a variable learning rate*,
      2002, also let the return set the rate, but the other way round: fast when losing,
      because their opponents move. Here the reward says whether the present steps work,
      as the loss does in `trend`, with the same test against noise.
    """
    _checks.within("up", up, 1.0, example="up=1.02")
    if down is not None:
        _checks.within("down", down, 0.0, 1.0, open_low=True, example="down=0.98")
    _checks.within("deadzone", deadzone, 0.0, example="deadzone=1.0")
    lower = 1.0 / up if down is None else down

    def init() -> RuleState:
        return ()

    def update(signals: Signals, state: RuleState) -> tuple[jax.Array, RuleState]:
        z = signals.reward.trend
        heard = _answer.heard(signals.reward.arrived, z)
        delta = _answer.by_vote(_answer.vote(z, deadzone), up, lower)
        allowed = heard & jnp.logical_not(signals.standing.restored)
        return _answer.hold_unless(allowed, delta, state, state)

    return Rule(init, update)
