"""More noise on a plateau, less when unstable: a law for sigma.

    unstable = v > calm  or  z < -rising
    stuck    = success < low  and  |z| <= deadzone
    delta    = log(down) where unstable, else log(up) where stuck, else 0

with z the loss trend, v the variance ratio of the loss, and success the share of recent
steps that improved beyond noise.
"""

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, RuleState, Signals
from adaptive_optax.rules import _answer


def success(
    *,
    up: float = 1.02,
    down: float = 0.8,
    low: float = 0.2,
    deadzone: float = 1.0,
    rising: float = 3.0,
    calm: float = 2.0,
) -> Rule:
    """Raise a gain while the loss is stuck, lower it while the loss is unstable.

    Meant for sigma. The gain is multiplied by ``down`` where the variance ratio is
    above ``calm`` or the loss trend z is below ``-rising``; otherwise by ``up`` where
    fewer than ``low`` of the recent steps improved and ``|z|`` is within ``deadzone``;
    otherwise kept. Instability has priority: noise that does harm is taken away even on
    a plateau.

    Args:
      up: Factor per step on a plateau; at least 1.
      down: Factor per step when unstable, in (0, 1]. It is far from ``1 / up`` on
        purpose: sigma rises slowly and falls fast.
      low: The success share below which the run is stuck; in [0, 1].
      deadzone: The loss trend, in standard errors, that is taken for flat; at least 0.
      rising: How many standard errors the loss must rise to be unstable; at least 0.
        Noise alone passes 1 on every sixth step; with 1 and ``down`` = 0.8 sigma would
        vanish on the plateau it is meant for. Noise passes 3 once in a thousand.
      calm: The variance ratio above which the run is unstable; at least 0.

    Returns:
      A `Rule` without state. It holds when no loss came, and at a restore.

    Raises:
      TypeError: If an argument is not a number.
      ValueError: If one is outside its range.

    Example:
      >>> from adaptive_optax import rules
      >>> rule = rules.success(low=0.1, calm=3.0)

    References:
      I. Rechenberg, *Evolutionsstrategie*, 1973, the 1/5th-success rule: a search that
      succeeds more often than 1 in 5 widens its mutations, one that succeeds less often
      narrows them. There the mutation is the step, and failure means that it is too
      long. Here a gradient makes the steps, and sigma only has to free a run that they
      no longer move. So a low share *raises* sigma, and instability lowers it.
    """
    _checks.within("up", up, 1.0, example="up=1.02")
    _checks.within("down", down, 0.0, 1.0, open_low=True, example="down=0.8")
    _checks.within("low", low, 0.0, 1.0, example="low=0.2")
    _checks.within("deadzone", deadzone, 0.0, example="deadzone=1.0")
    _checks.within("rising", rising, 0.0, example="rising=3.0")
    _checks.within("calm", calm, 0.0, example="calm=2.0")

    def init() -> RuleState:
        return ()

    def update(signals: Signals, state: RuleState) -> tuple[jax.Array, RuleState]:
        z, v, share = (
            signals.loss.trend,
            signals.loss.variance_ratio,
            signals.loss.success,
        )
        unstable = (v > calm) | (z < -rising)
        stuck = (share < low) & (jnp.abs(z) <= deadzone)
        choice = jnp.where(unstable, -1, jnp.where(stuck, 1, 0))
        allowed = _answer.heard(signals.loss.arrived, z, v, share)
        allowed = allowed & jnp.logical_not(signals.standing.restored)
        return _answer.hold_unless(
            allowed, _answer.by_vote(choice, up, down), state, state
        )

    return Rule(init, update)
