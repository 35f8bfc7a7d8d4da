"""The sensor of the loop: raw loss, reward and gradient -> `Signals`.

A non-finite measurement changes nothing here but its counter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax import _trees
from adaptive_optax._types import Limits, Series, Signals, Standing
from adaptive_optax.sense import cosines, estimators, motion, series
from adaptive_optax.sense import sketch as sketching
from adaptive_optax.sense.gradient import (
    LARGEST,
    Gradient,
    GradientNorms,
    gradient_norms,
    observe,
    weight,
)

__all__ = ["GradientNorms", "gradient_norms"]

FED = ("values", "rewards", "gradients")
"""The inputs that may be non-finite, in the order of `SensorState.nonfinite`."""


class Batch(NamedTuple):
    """What came with one step, before anything is read from it."""

    objective: jax.Array  # f32[] what is judged; 0 where it did not come
    told: jax.Array  # bool[] it came
    far: jax.Array  # bool[] it is far outside the limits: nothing is read from it


class SensorState(NamedTuple):
    """State of the sensor."""

    signal_count: jax.Array  # i32[] steps
    series: jax.Array  # f32[11, 2], see `series.Bank`
    cosines: jax.Array  # f32[4, 3], see `cosines.Bank`
    gradient: jax.Array  # f32[4], see `Gradient`
    motion: motion.MotionState
    nonfinite: jax.Array  # i32[3] how often each of `FED` was not finite


def init_sensor(params: Any, fraction: float) -> SensorState:
    """The sensor before the first step.

    Args:
      params: Parameters, or their `jax.ShapeDtypeStruct`s.
      fraction: Share of the coordinates that the sketch keeps, in (0, 1].
    """
    return SensorState(
        signal_count=jnp.zeros((), jnp.int32),
        series=series.init_bank(),
        cosines=cosines.init_bank(),
        gradient=jnp.zeros(len(Gradient._fields), jnp.float32),
        motion=motion.init_motion(params, fraction),
        nonfinite=jnp.zeros(len(FED), jnp.int32),
    )


def measure(
    state: SensorState,
    grads: Any,
    norms: GradientNorms,
    *,
    value: Any = None,
    reward: Any = None,
    limits: Limits = Limits(),  # noqa: B008
    fraction: float,
    decay: float = series.FAST,
    large: Any = None,
) -> tuple[Signals, Batch, SensorState]:
    """Read one step's feedback.

    Args:
      state: The sensor.
      grads: Gradients, finite or not.
      norms: Their `gradient_norms`, with ``finite`` False where they were not finite.
      value: Scalar loss of any dtype, or None.
      reward: Scalar reward, higher is better, or None.
      limits: What a batch must keep to be read.
      fraction: As given to `init_sensor`.
      decay: Of the fast means; slow ones, the gradient norm's too, have five times
        their horizon.
      large: As in `gradient.weight`; with None all gradients count the same.

    Returns:
      The signals, with an empty standing, the batch, and the new state.
    """
    fed = jnp.stack([_number(value), _number(reward)])
    came = jnp.asarray([value is not None, reward is not None])
    usable = came & (jnp.abs(fed) < LARGEST)  # False for NaN
    bad = jnp.stack([*(came & ~usable), ~norms.finite])
    judged, told = _to_judge(state, fed, usable)
    far = norms.finite & told & limits.room
    far &= limits.exceeded(judged, jnp.sqrt(norms.square))
    usable &= ~far
    norms = norms._replace(finite=norms.finite & ~far)
    fed = jnp.where(usable, fed, 0.0)
    bank, ones = series.extend(state.series, fed, usable, decay)
    said = series.read(state.series, bank, ones, usable, decay)

    odometer = motion.Odometer(*state.motion.odometer)
    cosine, known = _directions(state.motion, grads, norms, fraction)
    if large is not None:
        counts = weight(Gradient(*state.gradient), norms, large)
        cosine *= jnp.stack([counts, counts, 1.0])
    directions = cosines.extend(state.cosines, cosine, known)
    agreement = cosines.read(directions, cosine, known)

    gradient, grad_norm_z = observe(
        Gradient(*state.gradient), norms, estimators.slower(decay)
    )
    alignment, heading, step_correlation = _columns(agreement, cosines.COLUMNS)
    loss, rewarded = _columns(said, 2)
    signals = Signals(
        count=state.signal_count,
        loss=loss,
        reward=rewarded,
        objective=_objective(loss, rewarded, series.Bank(*bank).begun[series.REWARD]),
        has_gradient=norms.finite,
        grad_norm=jnp.sqrt(jnp.where(norms.finite, norms.square, 0.0)),
        grad_norm_z=grad_norm_z,
        dog_step_size=odometer.max_distance / jnp.sqrt(gradient.total + 1e-30),
        alignment=alignment,
        heading=heading,
        step_correlation=step_correlation,
        standing=Standing(),
    )
    batch = Batch(jnp.where(told, judged, 0.0), told, far)
    return (
        signals,
        batch,
        state._replace(
            signal_count=_trees.next_count(state.signal_count),
            series=bank,
            cosines=directions,
            gradient=jnp.stack(gradient),
            nonfinite=_trees.count_where(bad, state.nonfinite),
        ),
    )


def _to_judge(
    state: SensorState, fed: jax.Array, usable: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """This step's loss, or negative reward once there was one; whether it came."""
    begun = series.Bank(*state.series).begun[series.REWARD] > 0
    # The limits are those of the loss still when the first reward comes.
    told = jnp.where(begun, usable[1], usable[0] & ~usable[1])
    return jnp.where(begun, -fed[1], fed[0]), told


def first_reward(after: SensorState, before: SensorState) -> jax.Array:
    """Whether the first reward of the run came with the last step, bool[]."""
    now, then = series.Bank(*after.series), series.Bank(*before.series)
    return (now.begun > then.begun)[series.REWARD]


def record_step(
    state: SensorState,
    updates: Any,
    restored: jax.Array,
    *,
    forget: jax.Array | bool = False,
    kicked: jax.Array | bool = False,
    fraction: float,
) -> SensorState:
    """Remember the step that was taken, for the next alignment.

    Args:
      state: The sensor.
      updates: What is added to the parameters.
      restored: bool[]; a restore is no step, and the statistics start again.
      forget: bool[]; the data are new, and have gradients of another size.
      kicked: bool[]; so have parameters that a kick has moved off a saddle. What was
        usual there would have the next batches skipped, and the kick taken back.
      fraction: As given to `init_sensor`.
    """
    restored |= forget
    return state._replace(
        series=series.restart(state.series, restored),
        cosines=jnp.where(restored, 0.0, state.cosines),
        gradient=jnp.where(_OF_THE_DATA & (forget | kicked), 0.0, state.gradient),
        motion=motion.record(state.motion, updates, restored, fraction=fraction),
    )


_OF_THE_DATA = np.asarray([name != "total" for name in Gradient._fields])


def _directions(
    record: motion.MotionState, grads: Any, norms: GradientNorms, fraction: float
) -> tuple[jax.Array, jax.Array]:
    """Cosines of -gradient with the last step and with the way; that of two steps."""
    seen = sketching.take(grads, sketching.fraction_of(grads, fraction))
    step, way = record.step_sketch, motion.since_anchor(record)
    odometer = motion.Odometer(*record.odometer)
    square, *rest = sketching.inner_products(
        [(seen, seen), (seen, step), (seen, way), (step, step), (way, way)],
        sketching.scales(grads, seen),
    )
    products = jnp.stack(rest)
    cosine, known = sketching.cosines(products[:2], square, products[2:])
    cosine = jnp.stack([*-cosine, odometer.step_cosine])
    known = jnp.stack([*(known & norms.finite), odometer.carries > 0])
    return jnp.where(known, cosine, 0.0), known


def _objective(loss: Series, reward: Series, begun: jax.Array) -> Series:
    """The loss, or the negative reward once there has been one."""
    turned = reward._replace(
        value=-reward.value,
        change=-reward.change,
        fast=-reward.fast,
        slow=-reward.slow,
    )
    return jax.tree.map(lambda r, x: jnp.where(begun > 0, r, x), turned, loss)


def _columns(bank: Any, count: int) -> list[Any]:
    """Split a tuple of rows with ``count`` columns into ``count`` tuples of scalars."""
    return [jax.tree.map(lambda row, i=i: row[i], bank) for i in range(count)]


def _number(x: Any) -> jax.Array:
    """A feedback as f32[]; 0 for none."""
    return jnp.zeros((), jnp.float32) if x is None else jnp.asarray(x, jnp.float32)
