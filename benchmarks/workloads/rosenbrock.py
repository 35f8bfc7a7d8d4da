r"""Rosenbrock's curved valley in 20 dimensions, without noise.

.. math:: f(\theta) = \sum_{i=1}^{19} 100 (\theta_{i+1} - \theta_i^2)^2 + (1-\theta_i)^2

Rosenbrock, 1960, "An automatic method for finding the greatest or least value of a
function", in the coupled form of De Jong, 1975. The start is near the origin, on the
valley's floor and in the basin of the global minimum at (1, ..., 1); the second
minimum, near (-1, 1, ..., 1), would only measure luck. Metric: f. 1000 steps.
"""

import jax
import jax.numpy as jnp

from benchmarks.contract import Workload

DIMENSION = 20


def init(key: jax.Array) -> jax.Array:
    return 0.3 * jax.random.normal(key, (DIMENSION,))


def batch(key: jax.Array, step: jax.Array) -> tuple[()]:
    del key, step
    return ()


def valley(params: jax.Array) -> jax.Array:
    here, after = params[:-1], params[1:]
    return jnp.sum(100.0 * jnp.square(after - here**2) + jnp.square(1.0 - here))


def workload() -> Workload:
    return Workload(
        name="rosenbrock",
        split="development",
        optimizer="adam",
        horizon=1000,
        batch_size=0,
        init=init,
        batch=batch,
        loss=lambda params, batch, key: (valley(params), None),
        metric=lambda params, step: valley(params),
        metric_name="objective",
        # A millionth of the value at the start.
        floor=1e-4,
    )
