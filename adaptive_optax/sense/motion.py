"""Where the parameters have gone, on a sketch: the last step, and the way since.

The anchor is the mean of about the last third of the way, theta_anchor, a polynomial
mean of power 2. The travel is the largest distance from the start,
max |theta - theta_0|, of Distance over Gradients (Ivgi, Hinder, Carmon, 2023).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.sense import sketch as sketching
from adaptive_optax.sense.series import FAR


class MotionState(NamedTuple):
    """State of the record of steps."""

    step_sketch: Any  # like params, sliced, bfloat16: the last step
    travel_sketch: Any  # like params, sliced, float32: theta - theta_0
    anchor_sketch: Any  # the same, float32: mean of theta - theta_0
    anchor_count: jax.Array  # f32[] steps in it since the start or a restore
    travel_max: jax.Array  # f32[] largest distance from the start


def init_motion(params: Any, fraction: float) -> MotionState:
    """The record before the first step.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      fraction: Share of the coordinates that the sketch keeps, in (0, 1].
    """
    fraction = sketching.fraction_of(params, fraction)
    return MotionState(
        step_sketch=sketching.zeros(params, fraction, jnp.bfloat16),
        travel_sketch=sketching.zeros(params, fraction, jnp.float32),
        anchor_sketch=sketching.zeros(params, fraction, jnp.float32),
        anchor_count=jnp.zeros((), jnp.float32),
        travel_max=jnp.zeros((), jnp.float32),
    )


def since_anchor(state: MotionState) -> Any:
    """The way from the anchor to the parameters, sliced like them."""
    return jax.tree.map(jnp.subtract, state.travel_sketch, state.anchor_sketch)


def record(
    state: MotionState, updates: Any, restored: jax.Array, *, fraction: float
) -> tuple[MotionState, tuple[jax.Array, jax.Array]]:
    """Add a step.

    Args:
      state: From `init_motion` or the step before.
      updates: What is added to the parameters.
      restored: bool[]; a restore is no step, and the anchor starts again.
      fraction: As given to `init_motion`.

    Returns:
      The record, and the cosine of this step with the last one with whether both moved.
    """
    fraction = sketching.fraction_of(updates, fraction)
    step = jax.tree.map(
        lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0.0),
        sketching.take(updates, fraction),
    )
    travel = jax.tree.map(jnp.add, state.travel_sketch, step)
    moved = sum((jnp.any(leaf != 0) for leaf in jax.tree.leaves(step)), False)
    count = jnp.where(restored, 0.0, state.anchor_count + moved)
    share = jnp.where(moved, (FAR + 1) / (count + FAR + 1), 0.0)
    anchor = jax.tree.map(  # exactly the place at a restart: there is no way yet
        lambda mean, place: jnp.where(restored, place, mean + share * (place - mean)),
        state.anchor_sketch,
        travel,
    )
    scales = sketching.scales(updates, step)
    squares = [
        scale * jnp.sum(leaf * leaf)
        for scale, leaf in zip(scales, jax.tree.leaves(travel), strict=True)
    ]
    distance = jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))
    carried = sketching.cosine(step, state.step_sketch, scales)
    return MotionState(
        step_sketch=jax.tree.map(
            lambda leaf: jnp.where(restored, 0.0, leaf).astype(jnp.bfloat16), step
        ),
        travel_sketch=travel,
        anchor_sketch=anchor,
        anchor_count=count,
        travel_max=jnp.maximum(
            state.travel_max, jnp.where(jnp.isfinite(distance), distance, 0.0)
        ),
    ), carried
