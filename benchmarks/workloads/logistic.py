r"""Logistic regression on sparse, heavy-tailed features: a stream of examples.

Feature i of 64 is present with probability (1+i)^(-1/2) and then log-normal with random
sign, like word counts, the case AdaGrad was made for (Duchi, Hazan & Singer, 2011).
Labels are drawn from a fixed logistic teacher. Metric: the mean KL divergence of the
model from the teacher on 512 held-out inputs, which has no label noise. 1000 steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contract import Workload
from benchmarks.workloads import _random

FEATURES = 64
BATCH = 32
HORIZON = 1000


def examples(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Inputs, and labels of the teacher."""
    shape = (size, FEATURES)
    chances, magnitudes, label_chances = _random.uniform(key, shape, shape, (size,))
    frequency = (1.0 + jnp.arange(FEATURES)) ** -0.5
    # Half of the present ones get either sign.
    sign = jnp.sign(chances - 0.5 * frequency) * (chances < frequency)
    # Inside (0, 1), for the normal quantiles of 0 and 1 are infinite.
    normal = jax.scipy.special.ndtri(jnp.clip(magnitudes, 1e-6, 1 - 1e-6))
    x = sign * jnp.exp(0.75 * normal - 0.5)
    labels = label_chances < jax.nn.sigmoid(x @ teacher())
    return x, labels.astype(jnp.float32)


@functools.cache
def teacher() -> np.ndarray:
    weights = np.random.default_rng(0).normal(0.0, 1.0, FEATURES)
    return weights.astype(np.float32)


def init(key: jax.Array) -> dict[str, jax.Array]:
    del key
    return {"weights": jnp.zeros(FEATURES), "bias": jnp.zeros([])}


def logits(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ params["weights"] + params["bias"]


def batch(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    return examples(jax.random.fold_in(key, step), BATCH)


def loss(params, batch, key):
    del key
    x, labels = batch
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits(params, x), labels)), None


def workload() -> Workload:
    # Concrete, so that XLA does not spend seconds on drawing them while it compiles.
    test_x = np.asarray(examples(jax.random.key(0), 512)[0])

    def metric(params, step):
        del step
        truth = test_x @ teacher()
        cross = optax.sigmoid_binary_cross_entropy(
            logits(params, test_x), jax.nn.sigmoid(truth)
        )
        entropy = optax.sigmoid_binary_cross_entropy(truth, jax.nn.sigmoid(truth))
        return jnp.mean(cross - entropy)

    return Workload(
        name="logistic",
        split="development",
        optimizer="adagrad",
        horizon=HORIZON,
        batch_size=BATCH,
        init=init,
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="KL from the teacher",
        # What maximum likelihood on all the examples leaves on average: d / (2 B T).
        floor=FEATURES / (2 * BATCH * HORIZON),
    )
