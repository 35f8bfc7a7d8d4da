"""Two problems on which no rule's numbers were chosen.

Their rates are a third of the best on a grid of two to the decade, for plain SGD and
Adam with momentum .9.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gains.work import Work


def odds() -> Work:
    """Logistic regression on all rows, with inputs of scales from 1 to a hundredth."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 30)) * np.logspace(0, -2, 30)
    odd = x @ (rng.normal(size=30) / np.logspace(0, -1, 30))
    y = np.sign(odd + rng.logistic(size=400))
    margins = x * y[:, None]

    def value_of(log, exp, sum_of, w):
        return sum_of(log(1 + exp(-(margins @ w)))) / 400 + 1e-5 * sum_of(w * w) / 2

    w = np.zeros(30)
    for _ in range(50):  # Newton's, in float64
        wrong = 1 / (1 + np.exp(margins @ w))
        slope = -margins.T @ wrong / 400 + 1e-5 * w
        bent = (margins.T * (wrong * (1 - wrong))) @ margins / 400
        w = w - np.linalg.solve(bent + 1e-5 * np.eye(30), slope)
    least = value_of(np.log, np.exp, np.sum, w)
    rows = jnp.asarray(margins, jnp.float32)

    def value(w):
        return jnp.mean(jax.nn.softplus(-(rows @ w))) + 1e-5 * jnp.sum(w * w) / 2

    return Work(
        lambda key: 0.1 * jax.random.normal(key, (30,)),
        lambda w, key: value(w),
        lambda w: value(w) - least,
        1500,
        1e-6,
        3.0,
        0.01,
    )


def valley() -> Work:
    """Ten of Rosenbrock's valleys at once, each from a point of its own."""

    def value(x):
        return jnp.mean(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2) / 100

    def init(key):
        return jnp.array([[-1.2], [1.0]]) + 0.3 * jax.random.normal(key, (2, 10))

    return Work(init, lambda x, key: value(x), value, 2000, 1e-9, 0.3, 0.03)


UNSEEN = {"logistic regression, all rows": odds, "Rosenbrock's valleys": valley}
