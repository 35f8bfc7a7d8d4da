r"""A regression that learns nothing at first.

.. math:: y = \sin(a^\top x) + \sin(b^\top x) + \varepsilon, \quad x \sim N(0, I_8)

The waves have little linear part, so an 8-32-1 ReLU network first unlearns its own
random outputs, and then sits on a plateau, where gradients are all noise, until some
hidden units have found the two directions (Saad & Solla, 1995, "On-line learning in
soft committee machines"). The rate that gets there first overshoots at the start;
whoever takes that for a rate too high, or a level loss for the end, stays on the
plateau. Metric: squared error on 512 noise-free examples, over the variance of their
targets. 800 steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _layers, _random

INPUTS, HIDDEN, TEST = 8, 32, 512
BATCH = 32
NOISE = 0.1


@functools.cache
def waves() -> np.ndarray:
    """The two wave vectors, each of length 1.6: f32[8, 2]."""
    rng = np.random.default_rng(0)
    directions, _ = np.linalg.qr(rng.normal(size=(INPUTS, 2)))
    return np.float32(1.6 * directions)


def clean_targets(x: jax.Array | np.ndarray) -> jax.Array:
    return jnp.sum(jnp.sin(x @ waves()), axis=-1)


def batch(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    key = jax.random.fold_in(key, step)
    x, noise = _random.normal(key, (BATCH, INPUTS), (BATCH,))
    return x, clean_targets(x) + NOISE * noise


def predict(params: list[_layers.Dense], x: jax.Array) -> jax.Array:
    return _layers.mlp(params, x)[:, 0]


def loss(params, batch, key):
    del key
    x, targets = batch
    return jnp.mean(jnp.square(predict(params, x) - targets)), None


def workload() -> Workload:
    test = np.random.default_rng(1).normal(size=(TEST, INPUTS)).astype(np.float32)
    variance = float(np.var(np.sin(test @ waves()).sum(-1)))

    def metric(params, step):
        del step
        error = jnp.square(predict(params, test) - clean_targets(test))
        return jnp.mean(error) / variance

    return Workload(
        name="sine",
        split="development",
        optimizer="sgd",
        horizon=800,
        batch_size=BATCH,
        init=lambda key: _layers.init_mlp(key, (INPUTS, HIDDEN, 1)),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        floor=1e-3,
    )
