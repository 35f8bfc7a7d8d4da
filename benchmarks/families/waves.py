r"""A regression that learns nothing at first: a sum of waves.

.. math:: y = \sum_k \sin(a_k^\top x + \varphi_k) + \varepsilon, \quad x \sim N(0, I)

The world draws the wave vectors a, of length 1 to 2, and the phases. Such waves have
little linear part, so a ReLU network first unlearns its own random outputs and then
sits on a plateau, where gradients are nearly all noise, until some hidden units have
found the directions (Saad & Solla, 1995, "On-line learning in soft committee
machines"). The rate that gets there first overshoots at the start. The noise has
standard deviation 0.03 to 0.3. Metric: squared error on 512 examples without noise,
over the variance of their targets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random

TEST = 512
LEAST_NOISE, MOST_NOISE = 0.03, 0.3


class World(NamedTuple):
    vectors: jax.Array  # f32[inputs, waves]
    phases: jax.Array  # f32[waves]
    noise: jax.Array  # f32[]
    gain: jax.Array  # f32[], of the initialisation


def build(shape: Shape) -> Problem:
    inputs, waves = shape["inputs"], shape["waves"]
    size, horizon = shape["batches"]
    sizes = (inputs, *shape["hidden"], 1)
    test = np.random.default_rng(0).normal(size=(TEST, inputs)).astype(np.float32)

    def world(key):
        vectors, normals = _random.normal(key, (inputs, waves), (2 * waves + 2,))
        # Uniform numbers from the same draw.
        uniform = jax.scipy.stats.norm.cdf(normals)
        lengths, phases, (noise, gain) = jnp.split(uniform, (waves, 2 * waves))
        return World(
            vectors=vectors / jnp.linalg.norm(vectors, axis=0) * (1.0 + lengths),
            phases=2.0 * jnp.pi * phases,
            noise=LEAST_NOISE * (MOST_NOISE / LEAST_NOISE) ** noise,
            gain=2.0 ** (2.0 * gain - 1.0),
        )

    def clean(world, x):
        return jnp.sum(jnp.sin(x @ world.vectors + world.phases), axis=-1)

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        x, noise = _random.normal(key, (size, inputs), (size,))
        return x, clean(world, x) + world.noise * noise

    def squared_error(params, x, targets):
        return jnp.mean(jnp.square(_layers.mlp(params, x)[:, 0] - targets))

    def loss(params, batch, key):
        del key
        return squared_error(params, *batch), None

    def metric(params, step, world):
        del step
        targets = clean(world, test)
        return squared_error(params, test, targets) / jnp.var(targets)

    return Problem(
        horizon=horizon,
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # What least squares on the waves' own parameters leaves of the least noise:
        # their number times the variance over examples.
        floor=waves * (inputs + 1) * LEAST_NOISE**2 / (size * horizon),
    )


FAMILY = Family(
    trade="regression",
    shapes={
        "inputs": (2, 4, 8),
        "waves": (1, 2),
        "hidden": ((32,), (64,), (24, 24), (32, 32)),
        # Examples in a batch, and batches in a run.
        "batches": ((16, 1600), (32, 800), (64, 400), (128, 200)),
    },
    build=build,
)
