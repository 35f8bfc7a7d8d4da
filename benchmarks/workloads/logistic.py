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

FEATURES = 64
BATCH = 32
HORIZON = 1000


def inputs(key: jax.Array, size: int) -> jax.Array:
    present_key, size_key, sign_key = jax.random.split(key, 3)
    shape = (size, FEATURES)
    frequency = (1.0 + jnp.arange(FEATURES)) ** -0.5
    present = jax.random.bernoulli(present_key, frequency, shape)
    magnitude = jnp.exp(0.75 * jax.random.normal(size_key, shape) - 0.5)
    return present * magnitude * jax.random.rademacher(sign_key, shape, jnp.float32)


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
    input_key, label_key = jax.random.split(jax.random.fold_in(key, step))
    x = inputs(input_key, BATCH)
    probability = jax.nn.sigmoid(x @ teacher())
    return x, jax.random.bernoulli(label_key, probability).astype(jnp.float32)


def loss(params, batch, key):
    del key
    x, labels = batch
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits(params, x), labels)), None


def workload() -> Workload:
    # Concrete, so that XLA does not spend seconds on drawing them while it compiles.
    test_x = np.asarray(inputs(jax.random.key(0), 512))

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
