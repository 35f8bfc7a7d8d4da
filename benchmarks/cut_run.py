"""The run that `resume` cuts: what is trained, on which meshes, and the cuts."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from benchmarks import models, timing

STEPS = 200
BAD = (90, 91, 92, *range(110, 117))  # steps whose batch is a thousand times too large
Carry = tuple[Any, Any]  # parameters and state


@functools.cache  # and not at import: it would start JAX before there are 8 devices
def optimizer() -> optax.GradientTransformationExtraArgs:
    """Everything on."""
    return ao.adaptive_scheduler(
        optax.adamw,
        1e-2,
        sigma=1e-3,
        momentum=0.9,
        momentum_rule=ao.rules.alignment(),
        total_steps=STEPS,
        freeze=ao.Freeze(0.85, relative_to="initial", warmup=20, min_dwell=10),
    )


def _decays(state: Any) -> bool:
    return bool(state.sensor.signal_count > 0.7 * STEPS)


CUTS: dict[str, Callable[[Any], Any]] = {
    "in the warm-up": lambda s: s.sensor.signal_count < 20,
    "batches are skipped": lambda s: s.recovery.judges.trial.strikes > 1,
    "a restore is under way": lambda s: s.recovery.judges.trial.restoring > 0,
    "a part is frozen": lambda s: (s.frozen_fraction > 0) & ~_decays(s),
    "the rate decays": _decays,
}
"""What the state is in the middle of, and how that shows."""

# Axes of the mesh, and which axis of it each axis of a parameter is spread over.
MESHES: dict[str, tuple[tuple[int, ...], tuple[str | None, ...]]] = {
    "1 device": ((1,), ()),
    "8, data": ((8,), ()),
    "8, fully sharded": ((8,), ("data",)),
    "4x2": ((4, 2), ("data", "model")),
}


class Place(NamedTuple):
    """One mesh: where things lie on it, and how a step is made there."""

    shardings: Carry
    batches: Any  # of all steps
    step: Callable[..., Carry]  # (params, state, batches, step)

    def put(self, carry: Carry) -> Carry:
        """A train state, spread as this mesh has it."""
        return jax.device_put(carry, self.shardings)

    def run(self, carry: Carry, begin: int, end: int) -> list[Carry]:
        """What there is after every step."""
        after = []
        for step in range(begin, end):
            # Steps in flight on more devices than cores wait for each other for ever.
            carry = jax.block_until_ready(self.step(*carry, self.batches, step))
            after.append(carry)
        return after


def batches(steps: int) -> tuple[Any, Any]:
    """Of all steps: what a linear teacher says, a tenth of the labels at random."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps, 32, 64))
    x[[step for step in BAD if step < steps]] *= 1e3
    labels = np.argmax(x @ rng.normal(size=(64, 10)), -1)
    at_random = rng.random(labels.shape) < 0.1
    labels = np.where(at_random, rng.integers(0, 10, labels.shape), labels)
    return x.astype(np.float32), labels.astype(np.int32)


@functools.cache
def place(name: str, steps: int) -> Place:
    """The mesh of that name."""
    sizes, spread = MESHES[name]
    axes = ("data", "model")[: len(sizes)]
    mesh = jax.make_mesh(
        sizes,
        axes,
        axis_types=(AxisType.Auto,) * len(sizes),
        devices=jax.devices()[: int(np.prod(sizes))],
    )

    def sharding(leaf: Any) -> NamedSharding:
        over = [
            axis if axis and extent % mesh.shape[axis] == 0 else None
            for extent, axis in zip(leaf.shape, spread, strict=False)
        ]
        return NamedSharding(mesh, P(*over))

    params = jax.eval_shape(models.mlp().init, jax.random.key(0))
    places = jax.tree.map(sharding, params)
    shardings = places, ao.state_shardings(optimizer(), params, places)
    one_step = timing.stepper(optimizer(), models.mlp().loss)

    def step(params: Any, state: Any, batches: Any, count: jax.Array) -> Carry:
        return one_step(params, state, jax.tree.map(lambda x: x[count], batches))

    return Place(
        shardings=shardings,
        batches=jax.device_put(batches(steps), NamedSharding(mesh, P(None, "data"))),
        step=jax.jit(step, out_shardings=shardings),
    )


def start() -> Carry:
    """The first train state."""
    params = models.mlp().init(jax.random.key(0))
    return params, optimizer().init(params)


def cuts_of(history: list[Carry], wanted: Iterable[str]) -> dict[str, int]:
    """The steps behind each cut: the middle of those at which its condition holds.

    Raises:
      ValueError: If one never holds.
    """
    found = {}
    for name in wanted:
        steps = [i + 1 for i, (_, s) in enumerate(history[:-1]) if CUTS[name](s)]
        if not steps:
            raise ValueError(f"in this run it never was so: {name}.")
        found[name] = steps[len(steps) // 2]
    return found
