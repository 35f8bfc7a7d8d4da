r"""Matrix factorization, every entry at every step.

.. math:: f(W_1, \ldots, W_L) = \tfrac12 \| W_1 \cdots W_L - M \|_F^2

M has the stated rank, entries of root mean square 0.5 to 2, and singular values that
fall off by a factor of 1 to 10. The factors start at 0.1 to 1 of the size that they
need. Where that is little, each singular direction has to leave the saddle at the
origin in turn (Saxe, McClelland & Ganguli, 2014, "Exact solutions to the nonlinear
dynamics of learning in deep linear neural networks"). Metric: the squared error over
the squared norm of M.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _random


class World(NamedTuple):
    matrix: jax.Array  # f32[rows, columns]
    gain: jax.Array  # f32[], standard deviation of the entries at the start


def build(shape: Shape) -> Problem:
    rows, columns = shape["size"]
    rank, factors = shape["rank"], shape["factors"]
    inner = rank * shape["spare"]
    sizes = (rows, *[inner] * (factors - 1), columns)

    def world(key):
        left, right, normals = _random.normal(key, (rows, rank), (rank, columns), (3,))
        fall, size, gain = jax.scipy.stats.norm.cdf(normals)
        strength = (10.0**-fall) ** jnp.linspace(0.0, 1.0, rank)
        matrix = (left * strength) @ right
        matrix *= 2.0 ** (2.0 * size - 1.0) / jnp.sqrt(jnp.mean(matrix**2))
        # Factors with such entries make a product of the matrix's own size.
        full = (jnp.mean(matrix**2) / inner ** (factors - 1)) ** (0.5 / factors)
        return World(matrix=matrix, gain=full * 10.0 ** (gain - 1.0))

    def init(key, world):
        weights = _random.normal(key, *zip(sizes[:-1], sizes[1:], strict=True))
        return [world.gain * weight for weight in weights]

    def squared_error(params, matrix):
        return jnp.sum(jnp.square(jnp.linalg.multi_dot(params) - matrix))

    def loss(params, matrix, key):
        del key
        return 0.5 * squared_error(params, matrix), None

    def metric(params, step, world):
        del step
        return squared_error(params, world.matrix) / jnp.sum(world.matrix**2)

    return Problem(
        horizon=shape["horizon"],
        batch_size=0,
        world=world,
        init=init,
        batch=lambda key, step, world: world.matrix,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # Above what single precision leaves, 1e-12 or so, and below what is of use.
        floor=1e-8,
    )


FAMILY = Family(
    trade="deterministic",
    shapes={
        "size": ((12, 10), (20, 16), (40, 30)),  # of the matrix
        "rank": (2, 4),
        "spare": (1, 2),  # how often the rank fits into the factors
        "factors": (2, 3),
        "horizon": (160, 400, 1000, 2000),
    },
    build=build,
)
