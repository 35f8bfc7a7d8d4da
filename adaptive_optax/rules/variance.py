"""Lower a gain while the loss is noisier than usual, and restore it afterwards.

    o_t     = -log(1 + strength · max(v_t - deadzone, 0))
    delta_t = o_t - o_{t-1}

with v the variance ratio: noise variance of the loss over its long run (1 = as usual).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, Signals
from adaptive_optax.rules import _answer


class VarianceState(NamedTuple):
    """State of `variance`."""

    variance_offset: jax.Array  # f32[] log factor in force, at most 0


def variance(*, strength: float = 1.0, deadzone: float = 2.0) -> Rule:
    """Divide a gain by the loss's excess noise while the excess lasts.

    With v = ``signals.loss.variance_ratio`` the gain is divided by
    1 + strength · max(v - deadzone, 0). The rule keeps the log of that factor and
    answers with its change. So the changes sum to zero once the noise is back to
    normal.

    Args:
      strength: λ, how much one unit of excess variance divides the gain; at least 0,
        and 0 never moves it.
      deadzone: The ratio from which noise counts as excess; at least 0. At 1, the
        usual level, ordinary scatter of the estimate already costs the gain 7 % on
        average (measured on white noise); at 2 it costs nothing.

    Returns:
      A `Rule` whose state is the offset in force. It holds when no loss came, and at a
      restore. A restore does not undo the offset, because the gain still contains it.

    Raises:
      TypeError: If an argument is not a number.
      ValueError: If one is outside its range.

    Example:
      >>> from adaptive_optax import rules
      >>> rule = rules.variance(strength=0.5)
      >>> float(rule.init().variance_offset)
      0.0

    References:
      T. Schaul, S. Zhang and Y. LeCun, *No more pesky learning rates*, 2013: the best
      rate falls with the gradient's variance as 1 / (1 + noise / signal). This rule
      reads the loss instead of every gradient coordinate, and only the *excess* over
      the loss's own usual noise. So it depends on no scale, and it does not change a
      base rate that was chosen under the usual noise.
    """
    _checks.within("strength", strength, 0.0, example="strength=1.0")
    _checks.within("deadzone", deadzone, 0.0, example="deadzone=2.0")

    def init() -> VarianceState:
        return VarianceState(variance_offset=jnp.zeros((), jnp.float32))

    def update(
        signals: Signals, state: VarianceState
    ) -> tuple[jax.Array, VarianceState]:
        excess = jnp.maximum(signals.loss.variance_ratio - deadzone, 0.0)
        offset = -jnp.log1p(strength * excess)
        heard = _answer.heard(signals.loss.arrived, signals.loss.variance_ratio)
        allowed = heard & jnp.logical_not(signals.standing.restored)
        delta = offset - state.variance_offset
        return _answer.hold_unless(allowed, delta, VarianceState(offset), state)

    return Rule(init, update)
