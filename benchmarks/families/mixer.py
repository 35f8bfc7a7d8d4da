"""An MLP-Mixer classifies digits: it is deep, and nearly all of it is matrices.

Patches go through one or two blocks of token mixing and channel mixing, pre-norm with
residuals (Tolstikhin et al., 2021, "MLP-Mixer: an all-MLP architecture for vision"). It
has ReLU and no biases, so that it compiles sooner. The patches are 2x2 or 4x4 pixels of
scikit-learn's 8x8 digits. An instance has its own part of the training set (a third of
it or more), its own noise on the pixels, and its own scale of the initialisation.
Metric: cross-entropy on 128 held-out digits without noise.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random

TEST = 128


class World(NamedTuple):
    gain: jax.Array  # f32[], of the initialisation
    noise: jax.Array  # f32[], standard deviation of the pixels' noise
    first: jax.Array  # i32[], row of the training set where this instance's part begins
    rows: jax.Array  # i32[], in this instance's part


def init(
    key: jax.Array, *, patch: int, width: int, blocks: int, gain: jax.Array
) -> dict:
    tokens = (8 // patch) ** 2
    block = (tokens, tokens), (tokens, tokens), (width, 2 * width), (2 * width, width)
    ends = (patch * patch, width), (width, 10)
    embed, head, *kernels = [
        kernel * (gain / len(kernel) ** 0.5)
        for kernel in _random.normal(key, *ends, *blocks * block)
    ]
    mixing = [
        {
            "gains": [jnp.ones(width), jnp.ones(width)],
            "tokens": kernels[start : start + 2],
            "channels": kernels[start + 2 : start + 4],
        }
        for start in range(0, len(kernels), 4)
    ]
    return {"embed": embed, "blocks": mixing, "gain": jnp.ones(width), "head": head}


def logits(params: dict, x: jax.Array, patch: int) -> jax.Array:
    """f32[batch, 64] -> f32[batch, 10]."""
    side = 8 // patch
    x = x.reshape(-1, side, patch, side, patch).swapaxes(2, 3)
    x = x.reshape(-1, side * side, patch * patch) @ params["embed"]
    for block in params["blocks"]:
        first, second = block["tokens"]  # from the left: they mix along the tokens
        normed = _layers.layer_norm(block["gains"][0], x)
        x = x + second @ jax.nn.relu(first @ normed)
        first, second = block["channels"]
        normed = _layers.layer_norm(block["gains"][1], x)
        x = x + jax.nn.relu(normed @ first) @ second
    pooled = jnp.mean(_layers.layer_norm(params["gain"], x), axis=1)
    return pooled @ params["head"]


def build(shape: Shape) -> Problem:
    data, patch = _data.digits(), shape["patch"]

    def world(key):
        gain, noise, first, rows = _random.uniform(key, (), (), (), ())
        rows = jnp.int32(len(data.x) * (1.0 + 2.0 * rows) / 3.0)
        return World(
            gain=2.0 ** (2.0 * gain - 1.0),
            noise=0.3 * noise,
            first=_random.integers(first, len(data.x) - rows + 1),
            rows=rows,
        )

    def start(key, world):
        return init(
            key,
            patch=patch,
            width=shape["width"],
            blocks=shape["blocks"],
            gain=world.gain,
        )

    def batch(key, step, world):
        key, size = jax.random.fold_in(key, step), shape["batch"]
        chance, noise = _random.uniform(key, (size,), (size, 64))
        row = world.first + _random.integers(chance, world.rows)
        noise = 12.0**0.5 * world.noise * (noise - 0.5)
        return jnp.asarray(data.x)[row] + noise, jnp.asarray(data.labels)[row]

    def loss(params, batch, key):
        del key
        x, labels = batch
        return _layers.cross_entropy(logits(params, x, patch), labels), None

    def metric(params, step, world):
        del step, world
        predicted = logits(params, data.test_x[:TEST], patch)
        return _layers.cross_entropy(predicted, data.test_labels[:TEST])

    return Problem(
        horizon=shape["horizon"],
        batch_size=shape["batch"],
        world=world,
        init=start,
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # About what the standard error over 128 digits amounts to.
        floor=0.04,
    )


FAMILY = Family(
    trade="images",
    shapes={
        "patch": (2, 4),
        "width": (8, 12),
        "blocks": (1, 2),
        "batch": (8, 16),
        "horizon": (160, 240, 320),
    },
    build=build,
)
