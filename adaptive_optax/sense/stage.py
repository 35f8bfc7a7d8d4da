"""Sensing as a stage of the loop: from raw feedback to what the step has brought."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax._types import Limits, Signals
from adaptive_optax.sense import sensor as sensing


class Seen(NamedTuple):
    """What one step has brought."""

    signals: Signals
    has_feedback: bool  # a loss or a reward came
    nonfinite: jax.Array  # bool[] the gradient was not finite
    far: jax.Array  # bool[] the batch is far outside the limits: it is not learnt from
    new_objective: jax.Array  # bool[] the first reward came
    grads: Any  # finite; zero if the step is not taken
    live_grads: Any  # as they came, finite or not, without frozen leaves
    objective: jax.Array  # f32[] as it came; 0 where it did not
    told: jax.Array  # bool[] it came
    norm: jax.Array  # f32[] of the gradient
    leaf_norms: jax.Array  # f32[n]

    @property
    def learnt(self) -> jax.Array:
        """Whether the step may learn from this batch, bool[]."""
        return ~(self.nonfinite | self.far)

    @property
    def read(self) -> jax.Array:
        """Whether a loss or a reward was read as well, bool[]."""
        return self.learnt & (self.signals.loss.arrived | self.signals.reward.arrived)


def sense(
    freezing: Any,
    updates: Any,
    sensor: sensing.SensorState,
    freeze_state: Any,
    *,
    value: Any,
    reward: Any,
    limits: Limits,
    fraction: float,
    decay: float,
    large: Any = None,
) -> tuple[Seen, sensing.SensorState]:
    """Measure one step. Frozen leaves are left out: their gradients may be skipped.

    Args:
      freezing: A `freeze.stage.Freezing`.
      updates: The gradients, as they came.
      sensor: The sensor.
      freeze_state: State of ``freezing``.
      value: Scalar loss, or None.
      reward: Scalar reward, or None.
      limits: What a batch must keep to be learnt from.
      fraction: Share of the coordinates that the sketch keeps.
      decay: Of the fast means.
      large: From how many deviations on a gradient is large, or None.
    """
    stacked, ignored = freezing.entries(updates, freeze_state)
    norms = sensing.gradient_norms(updates, stacked, ignored)
    # Not yet zeroed where they are not finite: sums over the sketch that waited for the
    # norm would be one more collective on a mesh. Such sums are not looked at.
    live = freezing.live(updates, freeze_state)
    signals, batch, after = sensing.measure(
        sensor,
        live,
        norms,
        value=value,
        reward=reward,
        limits=limits,
        fraction=fraction,
        decay=decay,
        large=large,
    )
    return Seen(
        signals=signals,
        has_feedback=value is not None or reward is not None,
        nonfinite=~norms.finite,
        far=batch.far,
        objective=batch.objective,
        told=batch.told,
        norm=jnp.sqrt(norms.square),
        new_objective=sensing.first_reward(after, sensor),
        # A gradient that is not finite goes no further.
        grads=_zero_unless(norms.finite, updates),
        live_grads=live,
        leaf_norms=norms.leaf_norms,
    ), after


def _zero_unless(sound: jax.Array, tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.where(sound, x, jnp.zeros_like(x)), tree)
