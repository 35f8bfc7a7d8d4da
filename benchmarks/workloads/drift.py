r"""A classification stream whose classes never stop moving, with bad batches.

Five Gaussian classes of unit variance in 12 dimensions. The mean of each turns by a
quarter circle within its own random plane over the run (gradual concept drift, Gama et
al., 2014), so a rate that has died out cannot follow; in every 90th batch the labels
are all one too high and the inputs three times too large. The model is a 12-24-5 ReLU
network. Metric: the mean KL divergence of the model from the true posterior, which is
known, at 256 fixed draws of the present distribution. 1200 steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _layers, _random

FEATURES, CLASSES, TEST = 12, 5, 256
RADIUS = 2.0  # of the circles that the means turn on: the classes overlap
BATCH = 16
HORIZON = 1200
BAD_EVERY = 90


@functools.cache
def planes() -> np.ndarray:
    """f32[2, classes, features]: orthonormal pairs."""
    rng = np.random.default_rng(0)
    pairs = [np.linalg.qr(rng.normal(size=(FEATURES, 2)))[0].T for _ in range(CLASSES)]
    return np.stack(pairs, axis=1).astype(np.float32)


def means(step: jax.Array) -> jax.Array:
    """f32[classes, features] at ``step``."""
    turn = 0.5 * jnp.pi * step / HORIZON
    here, aside = planes()
    return RADIUS * (jnp.cos(turn) * here + jnp.sin(turn) * aside)


def is_bad(step: jax.Array) -> jax.Array:
    return step % BAD_EVERY == BAD_EVERY - 1


def batch(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    key = jax.random.fold_in(key, step)
    noise, chances = _random.normal(key, (BATCH, FEATURES), (BATCH,))
    labels = _random.integers(jax.scipy.stats.norm.cdf(chances), CLASSES)
    x = means(step)[labels] + noise
    bad = is_bad(step)
    return x * jnp.where(bad, 3.0, 1.0), (labels + bad) % CLASSES


def loss(params, batch, key):
    del key
    x, labels = batch
    return _layers.cross_entropy(_layers.mlp(params, x), labels), None


def workload() -> Workload:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(TEST, FEATURES)).astype(np.float32)
    labels = np.arange(TEST) % CLASSES

    def metric(params, step):
        centres = means(step)
        x = centres[labels] + noise
        # The classes are equally likely and as wide, so the posterior is a softmax.
        posterior = jax.nn.log_softmax(x @ centres.T - 0.5 * jnp.sum(centres**2, -1))
        model = jax.nn.log_softmax(_layers.mlp(params, x))
        return jnp.mean(jnp.sum(jnp.exp(posterior) * (posterior - model), -1))

    return Workload(
        name="drift",
        split="held_out",
        optimizer="adagrad",
        horizon=HORIZON,
        batch_size=BATCH,
        init=lambda key: _layers.init_mlp(key, (FEATURES, 24, CLASSES), gain=2**0.5),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="KL from the posterior",
        # The posterior's own drift within a tenth of the run costs about as much.
        floor=0.01,
        disturbed_at=BAD_EVERY - 1,
    )
