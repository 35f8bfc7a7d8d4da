"""What is trained: two classifiers of real images, small enough for hundreds at once.

The learning rates are what somebody finds who tries a few without a fault: see `RATES`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.families import _data, _layers, _random
from benchmarks.faults.fault import WIDE


class Task(NamedTuple):
    """A network of relu layers and the images that it learns to name."""

    load: Callable[[], _data.Split]
    sizes: tuple[int, ...]
    batch: int  # rows, where the batch is not `WIDE` times as large

    def init(self, key: jax.Array) -> Any:
        """The initialisation of He et al., 2015."""
        return _layers.init_mlp(key, self.sizes, gain=2.0**0.5)

    def draw(self, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Images, their labels, and random labels: `WIDE` batches of them."""
        data, rows = self.load(), WIDE * self.batch
        which, what = _random.uniform(key, (rows,), (rows,))
        which = _random.integers(which, len(data.labels))
        labels = jnp.asarray(data.labels)[which]
        return jnp.asarray(data.x)[which], labels, _random.integers(what, 10)

    def loss(
        self, params: Any, x: jax.Array, labels: jax.Array, weights: jax.Array
    ) -> jax.Array:
        """Cross-entropy in nats, each row with its weight."""
        losses = optax.softmax_cross_entropy_with_integer_labels(
            _layers.mlp(params, x), labels
        )
        return jnp.sum(weights * losses)

    def accuracy(self, params: Any, x: jax.Array) -> jax.Array:
        """f32[]: the share of the test images ``x`` that are named rightly."""
        found = jnp.argmax(_layers.mlp(params, x), axis=-1)
        return jnp.mean(found == jnp.asarray(self.load().test_labels))


@functools.cache
def mnist() -> _data.Split:
    """`_data.mnist` averaged once more, to 7x7."""
    full = _data.mnist()

    def smaller(x):
        return x.reshape(-1, 7, 2, 7, 2).mean(axis=(2, 4)).reshape(-1, 49)

    return full._replace(x=smaller(full.x), test_x=smaller(full.test_x))


TASKS = {
    "digits": Task(_data.digits, (64, 32, 10), 32),
    "mnist": Task(mnist, (49, 32, 32, 10), 64),
}

RATES = {
    ("digits", "adam"): 2e-3,
    ("digits", "sgd"): 0.05,
    ("mnist", "adam"): 3e-3,
    ("mnist", "sgd"): 0.05,
}
"""Of a sweep of each optimizer without a fault, eight seeds, by a third of a decade:
rates within a standard error of the best accuracy at the end, or of the next rate. Up
to three times as much is as good; ten times is worse by one to thirty points for SGD.
"""
