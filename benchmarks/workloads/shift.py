r"""A regression stream whose distribution and loss scale change half-way.

Targets are a fixed random tanh network of 16 Gaussian inputs, plus noise; the student
is a 16-32-1 tanh network of its own. At step 600 the teacher is replaced, the inputs
are moved and rescaled, and the targets come in a unit a quarter the size: four times as
large, with sixteen times the loss. Abrupt concept drift, as Gama et al., 2014, "A
survey on concept drift adaptation", call it. Metric: squared error on 256 noise-free
examples of the present distribution, over the variance of its targets. 1200 steps.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _layers, _random

INPUTS, HIDDEN, TEST = 16, 32, 256
BATCH = 16
HORIZON = 1200
SHIFT = HORIZON // 2
UNIT = (1.0, 4.0)
NOISE = 0.2  # of the targets' standard deviation


class Phase(NamedTuple):
    """The two distributions, before and after, stacked on the first axis."""

    scale: np.ndarray  # f32[2, inputs]
    mean: np.ndarray
    first: np.ndarray  # f32[2, inputs, 8]
    second: np.ndarray  # f32[2, 8]


@functools.cache
def phases() -> Phase:
    rng = np.random.default_rng(0)
    scale = np.stack([np.ones(INPUTS), rng.uniform(0.5, 1.5, INPUTS)])
    mean = np.stack([np.zeros(INPUTS), rng.uniform(-0.5, 0.5, INPUTS)])
    first = rng.normal(size=(2, INPUTS, 8)) * 1.5 / INPUTS**0.5
    second = rng.normal(size=(2, 8))
    # Both teachers are given targets of variance 1, before the unit.
    x = mean[:, None] + scale[:, None] * rng.normal(size=(2, 4096, INPUTS))
    second /= np.einsum("pnh,ph->pn", np.tanh(x @ first), second).std(1)[:, None]
    return Phase(*(np.float32(array) for array in (scale, mean, first, second)))


def examples(step: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The present distribution's inputs and clean targets, of standard normal noise."""
    now = (step >= SHIFT).astype(jnp.int32)
    scale, mean, first, second = (jnp.asarray(array)[now] for array in phases())
    x = mean + scale * noise
    return x, jnp.asarray(UNIT)[now] * (jnp.tanh(x @ first) @ second)


def batch(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    key = jax.random.fold_in(key, step)
    inputs, noise = _random.normal(key, (BATCH, INPUTS), (BATCH,))
    x, targets = examples(step, inputs)
    unit = jnp.asarray(UNIT)[(step >= SHIFT).astype(jnp.int32)]
    return x, targets + NOISE * unit * noise


def predict(params: list[_layers.Dense], x: jax.Array) -> jax.Array:
    return _layers.mlp(params, x, jnp.tanh)[:, 0]


def loss(params, batch, key):
    del key
    x, targets = batch
    return 0.5 * jnp.mean(jnp.square(predict(params, x) - targets)), None


def workload() -> Workload:
    noise = np.random.default_rng(1).normal(size=(TEST, INPUTS)).astype(np.float32)

    def metric(params, step):
        x, targets = examples(step, noise)
        error = jnp.mean(jnp.square(predict(params, x) - targets))
        return error / jnp.var(targets)

    return Workload(
        name="shift",
        split="development",
        optimizer="sgd",
        horizon=HORIZON,
        batch_size=BATCH,
        init=lambda key: _layers.init_mlp(key, (INPUTS, HIDDEN, 1)),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # A tenth of the noise in the targets, of which nobody sees enough for less.
        floor=0.1 * NOISE**2,
        disturbed_at=SHIFT,
    )
