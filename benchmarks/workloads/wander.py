r"""A regression stream whose teacher turns slowly, all the time.

Targets are a tanh network of 16 Gaussian inputs, plus noise; its weights turn by a
quarter of a circle from one random set to another over the run, so the minimum moves by
a little at every step and never stops. The student is a 16-32-1 tanh network. Where a
shift is abrupt and then over, this is the gradual drift of Gama et al., 2014, "A survey
on concept drift adaptation": who averages or anneals falls behind. Metric: squared
error on 256 noise-free examples of the present teacher, over the variance of its
targets. 1200 steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _layers, _random

INPUTS, HIDDEN, TEST = 16, 32, 256
BATCH = 16
HORIZON = 1200
NOISE = 0.2  # of the targets' standard deviation


@functools.cache
def ends() -> tuple[np.ndarray, np.ndarray]:
    """The teacher's weights at the start and the end: f32[2, inputs, 8], f32[2, 8]."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(2, INPUTS, 8)) * 1.5 / INPUTS**0.5
    second = rng.normal(size=(2, 8))
    # Both are given targets of variance 1.
    x = rng.normal(size=(4096, INPUTS))
    second /= np.einsum("pnh,ph->pn", np.tanh(x @ first), second).std(1)[:, None]
    return np.float32(first), np.float32(second)


def clean_targets(x: jax.Array, step: jax.Array) -> jax.Array:
    """What the teacher says at this step."""
    angle = 0.5 * jnp.pi * step / HORIZON
    share = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    first, second = (jnp.tensordot(share, weights, 1) for weights in ends())
    return jnp.tanh(x @ first) @ second


def batch(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    key = jax.random.fold_in(key, step)
    x, noise = _random.normal(key, (BATCH, INPUTS), (BATCH,))
    return x, clean_targets(x, step) + NOISE * noise


def predict(params: list[_layers.Dense], x: jax.Array) -> jax.Array:
    return _layers.mlp(params, x, jnp.tanh)[:, 0]


def loss(params, batch, key):
    del key
    x, targets = batch
    return 0.5 * jnp.mean(jnp.square(predict(params, x) - targets)), None


def workload() -> Workload:
    test = np.random.default_rng(1).normal(size=(TEST, INPUTS)).astype(np.float32)

    def metric(params, step):
        targets = clean_targets(test, step)
        error = jnp.mean(jnp.square(predict(params, test) - targets))
        return error / jnp.var(targets)

    return Workload(
        name="wander",
        split="development",
        optimizer="adagrad",
        horizon=HORIZON,
        batch_size=BATCH,
        init=lambda key: _layers.init_mlp(key, (INPUTS, HIDDEN, 1)),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # A tenth of the noise in the targets, of which nobody sees enough for less.
        floor=0.1 * NOISE**2,
    )
