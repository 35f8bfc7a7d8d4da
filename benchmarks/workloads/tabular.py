r"""Regression on a table: Friedman's first function, on features of uneven scale.

.. math:: y = 10 \sin(\pi x_1 x_2) + 20 (x_3 - \tfrac12)^2 + 10 x_4 + 5 x_5
    + \varepsilon

with uniform features of which five more say nothing, and ε of variance 1 (Friedman,
1991, "Multivariate adaptive regression splines"). As in a table that nobody has
normalised, the columns come centred but in units from 0.3 to 3. A 10-32-32-1 MLP reads
an endless stream. Metric: squared error on 512 noise-free held-out rows, over the
variance of the target. 800 steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _layers, _random

BATCH, TEST = 32, 512
FEATURES = 10
# The function's moments over the uniform distribution.
MEAN, DEVIATION = 14.41, 4.88


def target(x: jax.Array) -> jax.Array:
    """Friedman's function of the uniform features, standardised."""
    wave = 10.0 * jnp.sin(jnp.pi * x[:, 0] * x[:, 1])
    value = wave + 20.0 * (x[:, 2] - 0.5) ** 2 + 10.0 * x[:, 3] + 5.0 * x[:, 4]
    return (value - MEAN) / DEVIATION


def columns(x: jax.Array) -> jax.Array:
    """The uniform features as the table has them."""
    units = np.geomspace(0.3, 3.0, FEATURES).astype(np.float32)
    # Each informative column has an uninformative one of about its scale beside it.
    units = units[np.r_[0:10:2, 1:10:2]]
    return 12**0.5 * (x - 0.5) * units


def batch(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    key = jax.random.fold_in(key, step)
    x, noise = _random.uniform(key, (BATCH, FEATURES), (BATCH,))
    # Of variance 1 before the standardisation; uniform, from the same draw.
    noise = 12**0.5 * (noise - 0.5) / DEVIATION
    return columns(x), target(x) + noise


def loss(params, batch, key):
    del key
    x, targets = batch
    return jnp.mean(jnp.square(_layers.mlp(params, x)[:, 0] - targets)), None


def workload() -> Workload:
    uniform = np.random.default_rng(0).uniform(size=(TEST, FEATURES))
    uniform = uniform.astype(np.float32)
    test = columns(uniform), np.asarray(target(uniform))

    def metric(params, step):
        del step
        return loss(params, test, None)[0] / np.var(test[1])

    return Workload(
        name="tabular",
        split="held_out",
        optimizer="adamw",
        horizon=800,
        batch_size=BATCH,
        init=lambda key: _layers.init_mlp(key, (FEATURES, 32, 32, 1), gain=2**0.5),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # A tenth of the noise in the targets, of which nobody sees enough for less.
        floor=0.1 / DEVIATION**2,
    )
