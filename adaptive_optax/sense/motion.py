"""How the parameters have moved, on a sketch: the last step and the longer way.

The anchor theta_anchor is the mean of about the last third of the way: a polynomial
mean of power 2. The largest distance from the start, max |theta - theta_0|, is the one
in Distance over Gradients (Ivgi, Hinder, Carmon, 2023).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.sense import sketch as sketching
from adaptive_optax.sense.estimators import polynomial_weight

ANCHOR = 2.0  # power of the anchor's mean


class Odometer(NamedTuple):
    """One packed f32[4]."""

    anchor_count: jax.Array  # steps in the anchor since the start or a restore
    max_distance: jax.Array  # largest distance from the start
    step_cosine: jax.Array  # of the last step with the one before
    carries: jax.Array  # 1 if there is such a cosine


class MotionState(NamedTuple):
    """State of the record of steps."""

    step_sketch: Any  # like params, sliced, bfloat16: the last step
    displacement_sketch: Any  # like params, sliced, float32: theta - theta_0
    anchor_sketch: Any  # the same, float32: mean of theta - theta_0
    odometer: jax.Array  # f32[4], see `Odometer`


def init_motion(params: Any, fraction: float) -> MotionState:
    """The record before the first step.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      fraction: Share of the coordinates that the sketch keeps, in (0, 1].
    """
    fraction = sketching.fraction_of(params, fraction)
    return MotionState(
        step_sketch=sketching.zeros(params, fraction, jnp.bfloat16),
        displacement_sketch=sketching.zeros(params, fraction, jnp.float32),
        anchor_sketch=sketching.zeros(params, fraction, jnp.float32),
        odometer=jnp.zeros(len(Odometer._fields), jnp.float32),
    )


def since_anchor(state: MotionState) -> Any:
    """The way from the anchor to the parameters, sliced like them."""
    return jax.tree.map(jnp.subtract, state.displacement_sketch, state.anchor_sketch)


def record(
    state: MotionState, updates: Any, restored: jax.Array, *, fraction: float
) -> MotionState:
    """Add a step.

    Args:
      state: From `init_motion` or the step before.
      updates: What is added to the parameters.
      restored: bool[]; a restore is no step, and the anchor starts again.
      fraction: As given to `init_motion`.
    """
    fraction = sketching.fraction_of(updates, fraction)
    step = jax.tree.map(
        lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 0.0),
        sketching.take(updates, fraction),
    )
    # What follows needs sums over all leaves. The barrier makes XLA keep the slices
    # until then; without it XLA slices again later and keeps every whole step alive.
    step = jax.lax.optimization_barrier(step)
    last, old = state.step_sketch, Odometer(*state.odometer)
    displacement = jax.tree.map(jnp.add, state.displacement_sketch, step)
    dot, square, last_square, distance = sketching.inner_products(
        [(step, last), (step, step), (last, last), (displacement, displacement)],
        sketching.scales(updates, step),
    )
    moved = square > 0
    count = jnp.where(restored, 0.0, old.anchor_count + moved)
    share = jnp.where(moved, polynomial_weight(ANCHOR, count + 1), 0.0)

    anchor = jax.tree.map(  # at a restart exactly the parameters: no way yet
        lambda mean, place: jnp.where(restored, place, mean + share * (place - mean)),
        state.anchor_sketch,
        displacement,
    )
    cosine, carries = sketching.cosines(dot, square, last_square)
    farthest = jnp.maximum(old.max_distance, jnp.sqrt(distance))
    odometer = Odometer(
        anchor_count=count,
        max_distance=jnp.where(jnp.isfinite(distance), farthest, old.max_distance),
        step_cosine=cosine,
        carries=jnp.where(restored, 0.0, carries),
    )
    return MotionState(
        step_sketch=jax.tree.map(
            lambda leaf: jnp.where(restored, 0.0, leaf).astype(jnp.bfloat16), step
        ),
        displacement_sketch=displacement,
        anchor_sketch=anchor,
        odometer=jnp.stack(odometer),
    )
