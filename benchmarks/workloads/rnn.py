"""A gated recurrent unit on the adding problem.

Of two channels over 12 steps, one holds uniform numbers, the other marks two of them,
whose sum is to be given at the end (Hochreiter & Schmidhuber, 1997, "Long short-term
memory", section 5.4). A GRU of 16 units (Cho et al., 2014) reads an endless stream:
first a plateau, at the variance of the sum, then a fall. Metric: squared error on 256
held-out sequences, over the variance 1/6. 600 steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _layers, _random

BATCH, TEST = 32, 256
LENGTH, UNITS = 12, 16
VARIANCE = 1.0 / 6.0


def sequences(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """f32[length, size, 2] and the sums, f32[size]."""
    numbers, places = _random.uniform(key, (LENGTH, size), (2, size))
    # One mark in each half.
    first, second = _random.integers(places, LENGTH // 2)
    marks = jax.nn.one_hot(first, LENGTH, axis=0)
    marks += jax.nn.one_hot(second + LENGTH // 2, LENGTH, axis=0)
    return jnp.stack([numbers, marks], -1), jnp.sum(numbers * marks, 0)


def init(key: jax.Array) -> dict[str, _layers.Dense]:
    shapes = (2, 3 * UNITS), (UNITS, 2 * UNITS), (UNITS, UNITS), (UNITS, 1)
    read, gates, candidate, last = _layers.init_dense(key, *shapes)
    return {"read": read, "gates": gates, "candidate": candidate, "last": last}


def predict(params: dict[str, _layers.Dense], x: jax.Array) -> jax.Array:
    """The sum after the last step, f32[size]."""

    def step(state, read):
        gates = jax.nn.sigmoid(
            read[..., : 2 * UNITS] + _layers.dense(params["gates"], state)
        )
        reset, keep = jnp.split(gates, 2, -1)
        recalled = _layers.dense(params["candidate"], reset * state)
        candidate = jnp.tanh(read[..., 2 * UNITS :] + recalled)
        return keep * state + (1.0 - keep) * candidate, None

    start = jnp.zeros((x.shape[1], UNITS))
    state, _ = jax.lax.scan(step, start, _layers.dense(params["read"], x))
    return _layers.dense(params["last"], state)[:, 0]


def loss(params, batch, key):
    del key
    x, sums = batch
    return jnp.mean(jnp.square(predict(params, x) - sums)), None


def workload() -> Workload:
    test = jax.tree.map(np.asarray, sequences(jax.random.key(0), TEST))
    return Workload(
        name="rnn",
        split="held_out",
        optimizer="adam",
        horizon=600,
        batch_size=BATCH,
        init=init,
        batch=lambda key, step: sequences(jax.random.fold_in(key, step), BATCH),
        loss=loss,
        metric=lambda params, step: loss(params, test, None)[0] / VARIANCE,
        metric_name="relative squared error",
        # An error of a hundredth in a sum between 0 and 2.
        floor=1e-4 / VARIANCE,
    )
