r"""Ill-conditioned quadratic with gradient noise.

.. math:: f(\theta) = \tfrac12 \sum_i h_i (\theta_i - c_i)^2, \quad
    c_i \sim N(0, \sigma^2 / h_i), \quad h_i = i^{-2}, \quad i = 1 \ldots 64

The noisy quadratic model of Zhang et al., 2019, "Which algorithmic choices matter at
which batch sizes?", whose gradient noise has the Hessian as its covariance, with a
steeper spectrum: the condition number is 4096. Metric: excess risk, f(θ) without the
noise. 2000 steps.
"""

import jax
import jax.numpy as jnp

from benchmarks.contract import Workload

DIMENSION = 64
SIGMA = 0.3
BATCH = 4
HORIZON = 2000


def curvature() -> jax.Array:
    return jnp.arange(1, DIMENSION + 1, dtype=jnp.float32) ** -2


def init(key: jax.Array) -> jax.Array:
    # An excess of 1/2 in every direction: all of them have to be descended.
    return jax.random.rademacher(key, (DIMENSION,), jnp.float32) / jnp.sqrt(curvature())


def batch(key: jax.Array, step: jax.Array) -> jax.Array:
    noise = jax.random.normal(jax.random.fold_in(key, step), (BATCH, DIMENSION))
    return SIGMA * noise / jnp.sqrt(curvature())


def loss(params, batch, key):
    del key
    return jnp.mean(0.5 * jnp.square(params - batch) @ curvature()), None


def metric(params: jax.Array, step: jax.Array) -> jax.Array:
    del step
    return 0.5 * jnp.square(params) @ curvature()


def workload() -> Workload:
    return Workload(
        name="quadratic",
        split="development",
        optimizer="sgd",
        horizon=HORIZON,
        batch_size=BATCH,
        init=init,
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="excess risk",
        # What the mean of all examples would have left: d σ² / (2 B T).
        floor=DIMENSION * SIGMA**2 / (2 * BATCH * HORIZON),
    )
