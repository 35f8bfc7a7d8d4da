"""A deterministic autoencoder of the 8x8 digits, with a bottleneck.

An MLP squeezes the 64 pixels into 4 to 16 numbers and unfolds them again (Hinton &
Salakhutdinov, 2006, "Reducing the dimensionality of data with neural networks"). The
mean training image is subtracted; the loss is the squared error of an image, half its
sum over the pixels. The world draws 1000 training images with replacement, the unit of
the pixels (between a half and two) and the scale of the initialisation. Metric: squared
error on 500 held-out digits, over their variance around the mean image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random

EXAMPLES = 1000
# And the scale of the initialisation that keeps the size of the signal.
ACTIVATIONS = {"relu": (jax.nn.relu, 2**0.5), "tanh": (jnp.tanh, 1.0)}


class World(NamedTuple):
    x: jax.Array  # f32[examples, 64], in the world's unit
    unit: jax.Array  # f32[], what a black pixel is
    gain: jax.Array  # f32[], of the initialisation


def build(shape: Shape) -> Problem:
    data = _data.digits()
    activation, usual = ACTIVATIONS[shape["activation"]]
    hidden = [shape["width"] // 2**i for i in range(shape["depth"])]
    sizes = (64, *hidden, shape["code"], *hidden[::-1], 64)
    mean = data.x.mean(axis=0)
    x, test_x = data.x - mean, data.test_x - mean
    variance = float((test_x**2).sum(-1).mean())

    def world(key):
        chances, unit, gain = _random.uniform(key, (EXAMPLES,), (), ())
        unit = 2.0 ** (2.0 * unit - 1.0)
        rows = _random.integers(chances, len(x))
        return World(
            x=unit * jnp.asarray(x)[rows],
            unit=unit,
            gain=usual * 2.0 ** (1.5 * gain - 0.5),
        )

    def error(params, x):
        return jnp.mean(jnp.sum((_layers.mlp(params, x, activation) - x) ** 2, -1))

    def metric(params, step, world):
        del step
        return error(params, world.unit * test_x) / (world.unit**2 * variance)

    return Problem(
        horizon=shape["horizon"],
        batch_size=shape["batch"],
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=lambda key, step, world: _data.draw(key, step, shape["batch"], world.x),
        loss=lambda params, batch, key: (0.5 * error(params, *batch), None),
        metric=metric,
        metric_name="held-out relative squared error",
        # The variance of rounding: a pixel is one of 17 levels.
        floor=64 / 16**2 / 12 / variance,
    )


FAMILY = Family(
    trade="autoencoders",
    shapes={
        "width": (16, 24, 32),
        "depth": (1, 2),
        "code": (4, 8, 16),
        "activation": ("relu", "tanh"),
        "batch": (16, 32, 64),
        "horizon": (200, 300, 400),
    },
    build=build,
)
