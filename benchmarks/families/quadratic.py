r"""A quadratic bowl that is far longer than it is wide, without noise.

.. math:: f(\theta) = \tfrac12 \sum_i h_i (q_i^\top (\theta - c))^2

The curvatures h go from their largest, 3 to 30, down to a 10th to a 10000th of it, in
equal ratios. The axes q are those of the parameters or a random rotation of them: an
optimizer that scales each parameter by itself can undo the first kind but not the
second (Nocedal & Wright, 2006, "Numerical optimization", chapter 3). The start is away
from the minimum c in every direction, and further in the flat ones. Every gradient is
exact. Metric: f over its expected value at the start.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _random


class World(NamedTuple):
    curvature: jax.Array  # f32[dimension]
    axes: jax.Array  # f32[dimension, dimension], orthonormal columns
    minimum: jax.Array  # f32[dimension]
    spread: jax.Array  # f32[dimension], of the start, along the axes


def build(shape: Shape) -> Problem:
    size = shape["dimension"]

    def world(key):
        raw, minimum, normals = _random.normal(key, (size, size), (size,), (4,))
        # Uniform numbers from the same draw.
        largest, condition, tilt, gain = jax.scipy.stats.norm.cdf(normals)
        relative = (10.0 ** (-1.0 - 3.0 * condition)) ** jnp.linspace(0.0, 1.0, size)
        return World(
            curvature=3.0 * 10.0**largest * relative,
            axes=jnp.linalg.qr(raw)[0] if shape["rotated"] else jnp.eye(size),
            minimum=0.3 * minimum,
            spread=0.3 * 2.0 ** (2.0 * gain - 1.0) * relative ** (-0.25 * tilt),
        )

    def excess(params, world):
        off = params - world.minimum
        along = off @ world.axes if shape["rotated"] else off
        return 0.5 * jnp.square(along) @ world.curvature

    def init(key, world):
        (along,) = _random.normal(key, (size,))
        return world.minimum + world.axes @ (world.spread * along)

    def metric(params, step, world):
        del step
        expected = 0.5 * jnp.square(world.spread) @ world.curvature
        return excess(params, world) / expected

    return Problem(
        horizon=shape["horizon"],
        batch_size=0,
        world=world,
        init=init,
        batch=lambda key, step, world: world,
        loss=lambda params, world, key: (excess(params, world), None),
        metric=metric,
        metric_name="relative excess loss",
        # Above what single precision leaves, 1e-12 or so, and below what is of use.
        floor=1e-8,
    )


FAMILY = Family(
    trade="deterministic",
    shapes={
        "dimension": (8, 32, 64),
        "rotated": (False, True),
        "horizon": (80, 200, 500, 1000, 3000),
    },
    build=build,
)
