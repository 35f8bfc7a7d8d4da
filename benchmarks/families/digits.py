"""An MLP on the 8x8 digits: the problem that everybody starts with.

The world draws which of 1297 digits are trained on, with replacement, and how noisy
their pixels are at every draw (standard deviation 0.1 to 0.3), which keeps them from
being learnt by heart. Data: scikit-learn's copy of the UCI digits (Alpaydin & Kaynak,
1998). Metric: cross-entropy on 500 held-out digits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random


class World(NamedTuple):
    rows: jax.Array  # i32[rows], with replacement
    gain: jax.Array  # f32[], of the initialisation
    noise: jax.Array  # f32[], standard deviation of the pixels


def build(shape: Shape) -> Problem:
    data = _data.digits()
    size, horizon = shape["batches"]
    sizes = (64, *shape["hidden"], 10)

    def world(key):
        chances, gain, noise = _random.uniform(key, (shape["rows"],), (), ())
        return World(
            rows=_random.integers(chances, len(data.labels)),
            gain=2.0**0.5 * 2.0 ** (2.0 * gain - 1.0),
            noise=0.1 + 0.2 * noise,
        )

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        chances, noise = _random.uniform(key, (size,), (size, 64))
        rows = world.rows[_random.integers(chances, shape["rows"])]
        # Uniform noise of that standard deviation comes from the same draw.
        noise = world.noise * 12**0.5 * (noise - 0.5)
        return jnp.asarray(data.x)[rows] + noise, jnp.asarray(data.labels)[rows]

    def loss(params, batch, key):
        del key
        x, labels = batch
        return _layers.cross_entropy(_layers.mlp(params, x), labels), None

    def metric(params, step, world):
        del step, world
        return _layers.cross_entropy(_layers.mlp(params, data.test_x), data.test_labels)

    return Problem(
        horizon=horizon,
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # About what the standard error over 500 digits amounts to.
        floor=0.02,
    )


FAMILY = Family(
    trade="classification",
    shapes={
        "rows": (300, 1200),
        "hidden": ((16,), (32,), (24, 24), (32, 32)),
        # Examples in a batch, and batches in a run.
        "batches": ((16, 600), (32, 400), (64, 240), (128, 160)),
    },
    build=build,
)
