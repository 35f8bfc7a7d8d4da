"""Cut a gain once when the smoothed loss has stopped improving, then hold.

    improved = loss_fast < best - (rtol · loss_noise + atol)
    wait     = 0 if improved else wait + 1       (paused while the loss clearly falls)
    delta    = log(factor) where wait reaches patience, else 0

After a cut, `cooldown` steps pass without judging, and `best` starts again from the
present loss.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, Signals
from adaptive_optax.rules import _answer


class PlateauState(NamedTuple):
    """State of `plateau`."""

    plateau_best: jax.Array  # f32[] lowest smoothed loss since the last cut
    plateau_wait: jax.Array  # i32[] steps without an improvement
    plateau_rest: jax.Array  # i32[] steps of cooldown left


def plateau(
    *,
    factor: float = 0.5,
    patience: int = 200,
    cooldown: int = 200,
    rtol: float = 0.1,
    atol: float = 0.0,
    deadzone: float = 2.0,
) -> Rule:
    """Cut a gain when the loss has not improved for ``patience`` steps.

    An improvement is a smoothed loss below the best one by ``rtol`` standard deviations
    of a single loss. This is relative to the noise, so the loss's sign, scale and
    offset do not matter. A spike does not cause repeated cuts, for two reasons. Waiting
    pauses while the loss trend is above ``deadzone``: a loss that clearly falls is on
    no plateau, even far above its best. And a cut accepts the present level: the
    earlier best is forgotten.

    Args:
      factor: What the gain is multiplied by; in (0, 1).
      patience: Steps without improvement before a cut; at least 1, and more than the
        smoothing of the loss, some tens of steps.
      cooldown: Steps after a cut in which nothing is judged; at least 0.
      rtol: The least improvement that counts, in standard deviations of one loss; at
        least 0. Small values recognise slower falls. They still let a plateau end in a
        cut, because new lows by chance soon become rare.
      atol: The same in units of the loss; at least 0. Any value but 0 makes the rule
        depend on the loss's scale.
      deadzone: The loss trend, in standard errors, from which the loss is falling; at
        least 0.

    Returns:
      A `Rule`. It holds when no loss came, and starts again at a restore.

    Raises:
      TypeError: If an argument is not a number, or a step count not an integer.
      ValueError: If one is outside its range.

    Example:
      >>> from adaptive_optax import rules
      >>> rule = rules.plateau(factor=0.3, patience=500)

    References:
      Reduce-on-plateau of Keras, PyTorch and Optax, which has no paper; L. Prechelt,
      *Early stopping - but when?*, 1998, compares such criteria. Those rules measure
      rtol against ``|best|``, which has the wrong sign below zero and vanishes at zero.
      And they keep the best loss ever, so after one lucky low they cut again and again
      while the loss falls steadily from a spike.
    """
    _checks.within(
        "factor", factor, 0.0, 1.0, open_low=True, open_high=True, example="factor=0.5"
    )
    _checks.whole("patience", patience, 1, example="patience=200")
    _checks.whole("cooldown", cooldown, 0, example="cooldown=200")
    _checks.within("rtol", rtol, 0.0, example="rtol=0.1")
    _checks.within("atol", atol, 0.0, example="atol=0.0")
    _checks.within("deadzone", deadzone, 0.0, example="deadzone=2.0")

    def init() -> PlateauState:
        return PlateauState(
            plateau_best=jnp.asarray(jnp.finfo(jnp.float32).max),
            plateau_wait=jnp.zeros((), jnp.int32),
            plateau_rest=jnp.zeros((), jnp.int32),
        )

    def update(signals: Signals, state: PlateauState) -> tuple[jax.Array, PlateauState]:
        loss, best = signals.loss.fast, state.plateau_best
        rest = state.plateau_rest
        resting = rest > 0
        improved = loss < best - (rtol * signals.loss.noise + atol)
        falling = signals.loss.trend > deadzone
        waited = state.plateau_wait + jnp.where(falling, 0, 1)
        wait = jnp.where(improved | resting, 0, waited)
        cut = wait >= patience
        judged = PlateauState(
            plateau_best=jnp.where(improved | resting | cut, loss, best),
            plateau_wait=jnp.where(cut, 0, wait),
            plateau_rest=jnp.where(cut, cooldown, jnp.maximum(rest - 1, 0)),
        )
        heard = _answer.heard(
            signals.loss.arrived, loss, signals.loss.noise, signals.loss.trend
        )
        restored = jnp.asarray(signals.standing.restored, jnp.bool_)
        delta = jnp.where(cut & ~restored, _answer.log(factor), 0.0)
        following = jax.tree.map(
            lambda old, new: jnp.where(restored, old, new), init(), judged
        )
        return _answer.hold_unless(heard | restored, delta, following, state)

    return Rule(init, update)
