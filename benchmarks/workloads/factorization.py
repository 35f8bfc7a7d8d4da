r"""Matrix factorization from a near-exact saddle.

.. math:: f(U, V) = \tfrac{1}{2 |\Omega|} \sum_{(i,j) \in \Omega}
    ((U V^\top)_{ij} - M_{ij} - \varepsilon_{ij})^2

M is 20x16 of rank 4 with singular values 8, 4, 2, 1 times a constant, a fifth of its
entries Ω is seen at each step, with noise. U and V start at 1e-3 of the solution's
size, so each singular direction has to leave the saddle at the origin in turn (Saxe,
McClelland & Ganguli, 2014, "Exact solutions to the nonlinear dynamics of learning in
deep linear neural networks"). Metric: relative squared error of U Vᵀ. 1200 steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _random

ROWS, COLUMNS, RANK = 20, 16, 4
SEEN = 0.2
NOISE = 0.3  # of entries whose root mean square is 1
HORIZON = 1200


@functools.cache
def truth() -> np.ndarray:
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(ROWS, RANK)))
    right, _ = np.linalg.qr(rng.normal(size=(COLUMNS, RANK)))
    matrix = (left * [8.0, 4.0, 2.0, 1.0]) @ right.T
    return (matrix / matrix.std()).astype(np.float32)


def init(key: jax.Array) -> dict[str, jax.Array]:
    left, right = _random.normal(key, (ROWS, RANK), (COLUMNS, RANK))
    return {"left": 1e-3 * left, "right": 1e-3 * right}


def batch(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    shape = (ROWS, COLUMNS)
    chances, noise = _random.uniform(jax.random.fold_in(key, step), shape, shape)
    # Uniform noise of the same variance comes from the same draw.
    noise = NOISE * 12**0.5 * (noise - 0.5)
    return (chances < SEEN).astype(jnp.float32), truth() + noise


def loss(params, batch, key):
    del key
    seen, observed = batch
    error = params["left"] @ params["right"].T - observed
    # Over the expected number of entries, so that the loss is unbiased.
    return 0.5 * jnp.sum(seen * error**2) / (SEEN * ROWS * COLUMNS), None


def metric(params, step):
    del step
    error = params["left"] @ params["right"].T - truth()
    return jnp.sum(error**2) / np.sum(truth() ** 2)


def workload() -> Workload:
    return Workload(
        name="factorization",
        split="development",
        optimizer="sgd",
        horizon=HORIZON,
        batch_size=round(SEEN * ROWS * COLUMNS),
        init=init,
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # What least squares on all the entries leaves on average:
        # parameters times noise variance over entries seen.
        floor=RANK * (ROWS + COLUMNS) * NOISE**2 / (SEEN * ROWS * COLUMNS * HORIZON),
    )
