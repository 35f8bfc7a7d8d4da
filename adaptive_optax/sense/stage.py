"""Sensing as a stage of the loop: from raw feedback to what the step has brought."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax._types import Signals
from adaptive_optax.sense import sensor as sensing


class Seen(NamedTuple):
    """What one step has brought."""

    signals: Signals
    has_feedback: bool  # a loss or a reward came
    nonfinite: jax.Array  # bool[] the loss, reward or gradient was not finite
    new_objective: jax.Array  # bool[] the first reward came
    grads: Any  # finite; zero if the step is not taken
    live_grads: Any  # the same without frozen leaves
    leaf_norms: jax.Array  # f32[n]


def sense(
    freezing: Any,
    updates: Any,
    sensor: sensing.SensorState,
    freeze_state: Any,
    *,
    value: Any,
    reward: Any,
    fraction: float,
) -> tuple[Seen, sensing.SensorState]:
    """Measure one step. Frozen leaves are left out: their gradients may be skipped.

    Args:
      freezing: A `freeze.stage.Freezing`.
      updates: The gradients, as they came.
      sensor: The sensor.
      freeze_state: State of ``freezing``.
      value: Scalar loss, or None.
      reward: Scalar reward, or None.
      fraction: Share of the coordinates that the sketch keeps.
    """
    stacked, ignored = freezing.entries(updates, freeze_state)
    norms = sensing.gradient_norms(updates, stacked, ignored)
    # A gradient that is not finite goes no further than its norm.
    grads = _zero_unless(norms.finite, updates)
    live = freezing.live(grads, freeze_state)
    signals, after = sensing.measure(
        sensor, live, norms, value=value, reward=reward, fraction=fraction
    )
    nonfinite = sensing.any_nonfinite(after, sensor)
    return Seen(
        signals=signals,
        has_feedback=value is not None or reward is not None,
        nonfinite=nonfinite,
        new_objective=sensing.first_reward(after, sensor),
        grads=_zero_unless(~nonfinite, grads),
        live_grads=live,
        leaf_norms=norms.leaf_norms,
    ), after


def _zero_unless(sound: jax.Array, tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.where(sound, x, jnp.zeros_like(x)), tree)
