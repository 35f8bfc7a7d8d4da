"""The digits with wrong labels, as symmetric noise.

The noise of Zhang et al., 2017, "Understanding deep learning requires rethinking
generalization": a share of the training labels, .05 to .4 of them, is replaced once and
for all by a random other one. An MLP with noisy pixels (standard deviation .3) is too
small to learn the wrong labels by heart within the run. Metric: cross-entropy on 500
held-out digits with their true labels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random


class World(NamedTuple):
    labels: jax.Array  # i32[rows], some of them wrong
    gain: jax.Array  # f32[], of the initialisation
    noise: jax.Array  # f32[], standard deviation of the pixels


def build(shape: Shape) -> Problem:
    data = _data.digits()
    size, horizon = shape["batches"]
    sizes = (64, *[shape["width"]] * shape["depth"], 10)

    def world(key):
        rows = len(data.labels)
        chance, wrong, share, gain = _random.uniform(key, (rows,), (rows,), (), ())
        other = (data.labels + 1 + _random.integers(wrong, 9)) % 10
        return World(
            labels=jnp.where(chance < 0.05 + 0.35 * share, other, data.labels),
            gain=2.0 ** (0.5 + (gain - 0.5)),
            noise=jnp.float32(0.3),
        )

    def batch(key, step, world):
        x, labels = _data.draw(key, step, size, data.x, world.labels)
        return x, labels, world.noise

    def loss(params, batch, key):
        x, labels, noise = batch
        x = x + noise * jax.random.normal(key, x.shape)
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
        # 500 digits cannot tell a smaller one apart.
        floor=0.05,
    )


FAMILY = Family(
    trade="label noise",
    shapes={
        "width": (16, 32, 64),
        "depth": (1, 2),
        # Examples in a batch, and batches in a run.
        "batches": ((32, 800), (64, 400), (128, 160)),
    },
    build=build,
)
