r"""REINFORCE on a contextual bandit: the development workload that has a reward.

A softmax policy, an 8-16-6 tanh network, picks an arm for each of 16 Gaussian contexts.
Arm a of context x pays 1 with probability sigmoid(4 f_a(x)), f a fixed random tanh
network, else 0. The gradient is that of Williams, 1992, with the batch's mean pay as
its baseline, so the level of the surrogate loss says nothing of success. Metric:
regret, the best arm's expected pay less the policy's, over 512 contexts. 400 steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _layers

CONTEXT, HIDDEN, ARMS = 8, 16, 6
BATCH, TEST = 16, 512
SHARPNESS = 4.0


def chances(x: jax.Array) -> jax.Array:
    """Probability that an arm pays, f32[n, arms]."""
    rng = np.random.default_rng(0)
    first = np.float32(rng.normal(size=(CONTEXT, HIDDEN)) * 2 / CONTEXT**0.5)
    second = np.float32(rng.normal(size=(HIDDEN, ARMS)) / HIDDEN**0.5)
    return jax.nn.sigmoid(SHARPNESS * jnp.tanh(x @ first) @ second)


def logits(params: list[_layers.Dense], x: jax.Array) -> jax.Array:
    return _layers.mlp(params, x, jnp.tanh)


def loss(params, x, key):
    arm_key, pay_key = jax.random.split(key)
    scores = logits(params, x)
    arm = jax.random.categorical(arm_key, jax.lax.stop_gradient(scores))[:, None]
    chance = jnp.take_along_axis(chances(x), arm, 1)[:, 0]
    pay = (jax.random.uniform(pay_key, (BATCH,)) < chance).astype(jnp.float32)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), arm, 1)[:, 0]
    return -jnp.mean((pay - jnp.mean(pay)) * chosen), jnp.mean(pay)


def workload() -> Workload:
    test = np.random.default_rng(1).normal(size=(TEST, CONTEXT)).astype(np.float32)
    expected = np.asarray(chances(test))

    def metric(params, step):
        del step
        policy = jax.nn.softmax(logits(params, test))
        return jnp.mean(expected.max(1) - jnp.sum(policy * expected, 1))

    return Workload(
        name="bandit",
        split="development",
        optimizer="adam",
        horizon=400,
        batch_size=BATCH,
        init=lambda key: _layers.init_mlp(key, (CONTEXT, HIDDEN, ARMS)),
        batch=lambda key, step: jax.random.normal(
            jax.random.fold_in(key, step), (BATCH, CONTEXT)
        ),
        loss=loss,
        metric=metric,
        metric_name="regret",
        # A fiftieth of the best arm's mean advantage over a random one.
        floor=0.005,
    )
