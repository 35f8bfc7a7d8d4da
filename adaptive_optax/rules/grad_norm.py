"""Back off at a gradient spike, and come back step by step.

    floor_t = -log(1 + strength · max(z_t - threshold, 0))
    o_t     = min(floor_t, min(o_{t-1} + log(up), 0))
    delta_t = o_t - o_{t-1}

with z the z-score of the log gradient norm among recent ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, Signals
from adaptive_optax.rules import _answer


class GradNormState(NamedTuple):
    """State of `grad_norm`."""

    grad_norm_offset: jax.Array  # f32[] log factor in force, at most 0


def grad_norm(
    *, threshold: float = 3.0, strength: float = 1.0, up: float = 1.1
) -> Rule:
    """Divide a gain at a gradient-norm spike, then let it return by ``up`` a step.

    With z = ``signals.grad_norm_z`` the gain is divided by
    1 + strength · max(z - threshold, 0) at once, and returns by at most ``up`` a step
    to exactly where it was. The return is slow because the spike has also disturbed the
    moments of the steps that follow.

    Args:
      threshold: The z-score from which a norm is a spike; any finite number.
      strength: How much each further standard deviation divides the gain; at least 0,
        and 0 never moves it.
      up: Factor per step of the return; above 1.

    Returns:
      A `Rule` whose state is the offset in force. It holds when the gradient was not
      finite, and at a restore. A restore does not undo the offset, because the gain
      still contains it.

    Raises:
      TypeError: If an argument is not a number.
      ValueError: If one is outside its range.

    Example:
      >>> from adaptive_optax import rules
      >>> rule = rules.grad_norm(threshold=4.0, up=1.5)

    References:
      R. Pascanu, T. Mikolov and Y. Bengio, *On the difficulty of training recurrent
      neural networks*, 2013, clip the gradient at a fixed norm; A. Kumar et al.,
      *ZClip: adaptive spike mitigation for LLM pre-training*, 2025, at a z-score. Both
      change the gradient; this changes the gain, so it also tempers optimizers that
      ignore the gradient's length (Adam, Lion), and the steps that follow.
    """
    _checks.number("threshold", threshold, example="threshold=3.0")
    _checks.within("strength", strength, 0.0, example="strength=1.0")
    _checks.within("up", up, 1.0, open_low=True, example="up=1.1")

    def init() -> GradNormState:
        return GradNormState(grad_norm_offset=jnp.zeros((), jnp.float32))

    def update(
        signals: Signals, state: GradNormState
    ) -> tuple[jax.Array, GradNormState]:
        z = signals.grad_norm_z
        floor = -jnp.log1p(strength * jnp.maximum(z - threshold, 0.0))
        returning = jnp.minimum(state.grad_norm_offset + _answer.log(up), 0.0)
        offset = jnp.minimum(floor, returning)
        heard = _answer.heard(signals.has_gradient, z)
        allowed = heard & jnp.logical_not(signals.standing.restored)
        delta = offset - state.grad_norm_offset
        return _answer.hold_unless(allowed, delta, GradNormState(offset), state)

    return Rule(init, update)
