r"""A student network learns from a teacher network whose answers are noisy.

.. math:: y = T(x) + \varepsilon, \quad x \sim N(0, I)

The teacher T is a network of one hidden layer of 8 tanh units with random weights and
biases, its answers scaled to variance 1 (Saad & Solla, 1995, "On-line learning in soft
committee machines"). The noise has standard deviation 0.03 to 0.5. No example comes
twice. Metric: squared error on 512 answers without noise, over their variance.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random

UNITS, TEST = 8, 512
LEAST_NOISE, MOST_NOISE = 0.03, 0.5
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


class World(NamedTuple):
    hidden: jax.Array  # f32[inputs, UNITS]
    bias: jax.Array  # f32[UNITS]
    output: jax.Array  # f32[UNITS]
    center: jax.Array  # f32[], mean of the raw answers
    scale: jax.Array  # f32[], their standard deviation
    noise: jax.Array  # f32[]
    gain: jax.Array  # f32[], of the initialisation


def build(shape: Shape) -> Problem:
    inputs = shape["inputs"]
    size, horizon = shape["batches"]
    sizes = (inputs, *shape["hidden"], 1)
    activation = ACTIVATIONS[shape["activation"]]
    test = np.random.default_rng(0).normal(size=(TEST, inputs)).astype(np.float32)

    def raw(world, x):
        return jnp.tanh(x @ world.hidden + world.bias) @ world.output

    def answers(world, x):
        return (raw(world, x) - world.center) / world.scale

    def world(key):
        hidden, bias, output, normals = _random.normal(
            key, (inputs, UNITS), (UNITS,), (UNITS,), (2,)
        )
        noise, gain = jax.scipy.stats.norm.cdf(normals)
        this = World(
            hidden=hidden * 2.0 / inputs**0.5,
            bias=bias,
            output=output,
            center=jnp.float32(0.0),
            scale=jnp.float32(1.0),
            noise=LEAST_NOISE * (MOST_NOISE / LEAST_NOISE) ** noise,
            gain=2.0 ** (2.0 * gain - 1.0),
        )
        on_test = raw(this, test)
        return this._replace(center=jnp.mean(on_test), scale=jnp.std(on_test))

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        x, noise = _random.normal(key, (size, inputs), (size,))
        return x, answers(world, x) + world.noise * noise

    def squared_error(params, x, targets):
        predicted = _layers.mlp(params, x, activation)[:, 0]
        return jnp.mean(jnp.square(predicted - targets))

    def loss(params, batch, key):
        del key
        return squared_error(params, *batch), None

    def metric(params, step, world):
        del step
        return squared_error(params, test, answers(world, test))

    return Problem(
        horizon=horizon,
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # What least squares would leave of the least noise if the student had no more
        # parameters than the teacher: their number times the variance over examples.
        floor=UNITS * (inputs + 2) * LEAST_NOISE**2 / (size * horizon),
    )


FAMILY = Family(
    trade="regression",
    shapes={
        "inputs": (4, 8, 16),
        "hidden": ((16,), (32,), (16, 16), (32, 32)),
        "activation": ("relu", "tanh"),
        # Examples in a batch, and batches in a run.
        "batches": ((8, 2000), (16, 1000), (32, 400), (128, 160)),
    },
    build=build,
)
