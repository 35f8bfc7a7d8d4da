"""river's linear regression on our streams, one example at a time.

river (Montiel et al., 2021) learns in Python, without JAX, from dicts. So it fits the
linear streams at batch 1 alone, and its optimizers cannot train the others. It is no
dependency of anything here: without it the section says that it was left out.
"""

import importlib.util
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.online import streams
from benchmarks.online.streams import Moves

RATES = 3.0 ** np.arange(-8.0, 1.0)
OPTIMIZERS = ("SGD", "AdaGrad", "Adam", "RMSProp")


def installed() -> bool:
    """Whether there is a river to run."""
    return importlib.util.find_spec("river") is not None


def examples(
    moves: Moves, seed: int, steps: int
) -> tuple[list[dict[int, float]], np.ndarray]:
    """Inputs and targets of a regression stream, those that `run` draws at batch 1."""
    of = streams.KINDS["regression"]()
    first, key = jax.random.split(jax.random.key(seed))
    numbers = jax.tree.map(jnp.float32, moves)

    def step(world, t):
        (x, y), world = of.draw(jax.random.fold_in(key, t), t, world, numbers, 1)
        return world, (x[0], y[0])

    x, y = jax.jit(lambda: jax.lax.scan(step, of.world(first), jnp.arange(steps))[1])()
    rows = [dict(enumerate(row)) for row in np.asarray(x, float).tolist()]
    return rows, np.asarray(y, float)


def mean_loss(
    optimizer: str, rate: float, rows: Sequence[dict[int, float]], y: np.ndarray
) -> float:
    """Half the mean squared error of each prediction before its target is known."""
    from river import linear_model, optim

    # Its squared loss is ours, times two.
    made = getattr(optim, optimizer)(rate / 2 if optimizer == "SGD" else rate)
    model = linear_model.LinearRegression(optimizer=made, intercept_lr=0.0)
    total = 0.0
    for x, target in zip(rows, y.tolist(), strict=True):
        total += 0.5 * (model.predict_one(x) - target) ** 2
        if not np.isfinite(total) or total > 1e9:
            return np.inf
        model.learn_one(x, target)
    return total / len(rows)


def tuned(
    moves: Moves, *, tuning: Sequence[int], seeds: Sequence[int], steps: int
) -> dict[str, tuple[float, np.ndarray]]:
    """Of every optimizer the rate that was tuned, and f64[seeds] the losses at it."""
    to_tune = [examples(moves, seed, steps) for seed in tuning]
    to_judge = [examples(moves, seed, steps) for seed in seeds]
    found = {}
    for name in OPTIMIZERS:
        losses = [
            np.mean([np.log(mean_loss(name, rate, *one)) for one in to_tune])
            for rate in RATES
        ]
        rate = float(RATES[int(np.argmin(losses))])
        found[name] = rate, np.array([mean_loss(name, rate, *one) for one in to_judge])
    return found
