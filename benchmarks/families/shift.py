"""A regression stream whose distribution and loss scale change abruptly.

The targets are a random tanh network of 16 Gaussian inputs, plus noise; the student is
a tanh network of its own. Once or twice in the run the teacher is replaced, the inputs
are moved and rescaled, and the targets come in another unit, so that the loss may be
ten times as large, or a tenth: abrupt concept drift, as Gama et al., 2014, "A survey on
concept drift adaptation", call it. The world draws when, what comes after, and the
noise.

Half of the problems have a data pipeline that fails now and then, which is what
Chowdhery et al., 2022, "PaLM", section 5.1, skip batches for. One batch in 150 arrives
ten times too large and with the wrong sign of its targets, and one in 300 holds a NaN.

Metric: squared error on 256 noise-free examples of the present distribution, over the
variance of its targets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random

INPUTS, HIDDEN, TEST = 16, 8, 256
INFLATED, MISSING = 1 / 150, 1 / 300  # shares of the batches


class Phase(NamedTuple):
    """A distribution; in a world all of them are stacked on the first axis."""

    scale: jax.Array  # f32[inputs]
    mean: jax.Array  # f32[inputs]
    first: jax.Array  # f32[inputs, hidden]
    second: jax.Array  # f32[hidden]
    unit: jax.Array  # f32[], of the targets


class World(NamedTuple):
    phases: Phase
    shifts: jax.Array  # f32[shifts], the steps at which the next phase begins
    noise: jax.Array  # f32[], of the targets' standard deviation
    gain: jax.Array  # f32[], of the initialisation


def examples(phase: Phase, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inputs and the clean targets that are made of standard normal noise."""
    x = phase.mean + phase.scale * noise
    return x, phase.unit * (jnp.tanh(x @ phase.first) @ phase.second)


def present(world: World, step: jax.Array) -> Phase:
    now = jnp.sum(step >= world.shifts)
    return jax.tree.map(lambda stacked: stacked[now], world.phases)


def build(shape: Shape) -> Problem:
    size, horizon, shifts = shape["batch"], shape["horizon"], shape["shifts"]
    phases = shifts + 1
    sizes = (INPUTS, shape["width"], 1)
    rng = np.random.default_rng(1)
    test_noise = rng.normal(size=(TEST, INPUTS)).astype(np.float32)

    def world(key):
        move, first, second, scalars = _random.normal(
            key, (2, phases, INPUTS), (phases, INPUTS, HIDDEN), (phases, HIDDEN), (7,)
        )
        chances = jax.scipy.stats.norm.cdf(scalars)
        later = jnp.minimum(jnp.arange(phases), 1)  # the first phase is not moved
        phase = Phase(
            scale=jnp.exp(0.3 * later[:, None] * move[0]),
            mean=0.3 * later[:, None] * move[1],
            first=1.5 * first / INPUTS**0.5,
            second=second,
            unit=jnp.ones(phases),
        )
        # Every teacher is given targets of variance 1, before the unit.
        _, targets = jax.vmap(examples, (0, None))(phase, test_noise)
        phase = phase._replace(
            second=second / jnp.std(targets, axis=1)[:, None],
            unit=10.0 ** (later * (chances[:phases] - 0.5)),
        )
        # Each shift lies in the middle half of its share of the run.
        when = (jnp.arange(shifts) + 0.25 + 0.5 * chances[3 : 3 + shifts]) / shifts
        return World(
            phases=phase,
            shifts=when * horizon,
            noise=0.1 + 0.3 * chances[5],
            gain=2.0 ** (2.0 * chances[6] - 1.0),
        )

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        inputs, noise, luck = _random.normal(key, (size, INPUTS), (size,), ())
        phase = present(world, step)
        x, targets = examples(phase, inputs)
        targets = targets + world.noise * phase.unit * noise
        if shape["spoilt"]:
            luck = jax.scipy.stats.norm.cdf(luck)
            inflated, missing = luck < INFLATED, luck > 1.0 - MISSING
            x = x * jnp.where(inflated, 10.0, 1.0)
            x = x.at[0, 0].set(jnp.where(missing, jnp.nan, x[0, 0]))
            targets = targets * jnp.where(inflated, -10.0, 1.0)
        return x, targets

    def predict(params, x):
        return _layers.mlp(params, x, jnp.tanh)[:, 0]

    def loss(params, batch, key):
        del key
        x, targets = batch
        return 0.5 * jnp.mean((predict(params, x) - targets) ** 2), None

    def metric(params, step, world):
        x, targets = examples(present(world, step), test_noise)
        return jnp.mean((predict(params, x) - targets) ** 2) / jnp.var(targets)

    return Problem(
        horizon=horizon,
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # A tenth of the variance of a middling noise, of which nobody sees enough for
        # less.
        floor=0.005,
        guarded=shape["spoilt"],
    )


FAMILY = Family(
    trade="streams",
    shapes={
        "shifts": (1, 2),
        "spoilt": (False, True),
        "width": (16, 32),
        "batch": (8, 16, 32),
        "horizon": (400, 1000, 2000),
    },
    build=build,
)
