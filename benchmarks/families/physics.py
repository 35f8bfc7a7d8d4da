"""A physics-informed network: it solves a differential equation that it is told.

Raissi, Perdikaris & Karniadakis, 2019, "Physics-informed neural networks". A small tanh
network u is trained on the residual of the equation at collocation points in [-1, 1],
plus ten times the squared error on the boundary. The equation is u'' + q u = f, or the
transport of a wave that also diffuses, u_t + c u_x = a u_xx for t in [0, 1]. The true
solution is a sum of two waves; the world draws their lengths, phases and sizes, and the
coefficients q, or c and a. The derivatives make the loss ill-conditioned (Krishnapriyan
et al., 2021, "Characterizing possible failure modes in physics-informed neural
networks"). The collocation points are fixed, which makes the loss deterministic, or
fresh at each step. Metric: L2 error over the L2 norm of the solution, on 200 points.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random

WAVES, TEST, WEIGHT = 2, 200, 10.0

Function = Callable[[jax.Array], jax.Array]


class World(NamedTuple):
    size: jax.Array  # f32[waves]
    number: jax.Array  # f32[waves], radians per unit of length
    phase: jax.Array  # f32[waves]
    react: jax.Array  # f32[], q; the least eigenvalue of -u'' is 2.47
    speed: jax.Array  # f32[], c
    diffuse: jax.Array  # f32[], a
    gain: jax.Array  # f32[], of the initialisation


def world(key: jax.Array) -> World:
    size, number, phase, rest = _random.uniform(key, *[(WAVES,)] * 3, (4,))
    return World(
        size=0.5 + size,
        number=1.0 + 3.0 * number,
        phase=2.0 * jnp.pi * phase,
        react=4.0 * rest[0] - 2.5,
        speed=0.5 + rest[1],
        diffuse=0.01 * 10.0 ** rest[2],
        gain=2.0 ** (2.0 * rest[3] - 0.5),
    )


def solution(world: World, points: jax.Array, at_rest: bool) -> jax.Array:
    """Of points f32[n, 1] (x) or f32[n, 2] (x, t)."""
    x, t = points[:, :1], 0.0 if at_rest else points[:, 1:]
    waves = jnp.sin(world.number * (x - world.speed * t) + world.phase)
    decay = jnp.exp(-world.diffuse * world.number**2 * t)
    return (world.size * decay * waves).sum(-1)


def source(world: World, points: jax.Array) -> jax.Array:
    """The f of u'' + q u = f."""
    waves = world.size * jnp.sin(world.number * points + world.phase)
    return ((world.react - world.number**2) * waves).sum(-1)


def derivative(function: Function, axis: int) -> Function:
    """Of a function of points f32[n, inputs], one output each, along one input."""

    def along(points):
        direction = jnp.zeros_like(points).at[:, axis].set(1.0)
        return jax.jvp(function, (points,), (direction,))[1]

    return along


def build(shape: Shape) -> Problem:
    at_rest, size = shape["equation"] == "boundary value", shape["points"]
    inputs = 1 if at_rest else 2
    sizes = (inputs, *shape["hidden"], 1)
    rng = np.random.default_rng(0)
    fixed = rng.uniform(size=(size, inputs)).astype(np.float32)
    fixed[:, 0] = (rng.permutation(size) + 0.5) / size  # evenly spaced
    test = rng.uniform(size=(TEST, inputs)).astype(np.float32) * [2, 1][:inputs]
    test = np.float32(test - [1, 0][:inputs])

    def predict(params, points):
        return _layers.mlp(params, points, jnp.tanh)[:, 0]

    def edges(points):
        """Where the solution is given: both ends, and the start if there is one."""
        if at_rest:
            return jnp.asarray([[-1.0], [1.0]])
        x, t = points[:, 0], points[:, 1]
        ends = jnp.stack([jnp.where(jnp.arange(size) % 2, 1.0, -1.0), t], -1)
        start = jnp.stack([x, jnp.zeros(size)], -1)
        return jnp.concatenate([ends, start[: size // 2]])

    def batch(key, step, world):
        chances = jnp.asarray(fixed)
        if shape["fresh"]:
            key = jax.random.fold_in(key, step)
            (chances,) = _random.uniform(key, (size, inputs))
        return chances.at[:, 0].multiply(2.0).at[:, 0].add(-1.0), world

    def loss(params, batch, key):
        del key
        points, world = batch
        u = functools.partial(predict, params)
        u_x = derivative(u, 0)
        u_xx = derivative(u_x, 0)(points)
        if at_rest:
            residual = u_xx + world.react * u(points) - source(world, points)
        else:
            u_t = derivative(u, 1)(points)
            residual = u_t + world.speed * u_x(points) - world.diffuse * u_xx
        edge = edges(points)
        error = u(edge) - solution(world, edge, at_rest)
        return jnp.mean(residual**2) + WEIGHT * jnp.mean(error**2), None

    def metric(params, step, world):
        del step
        true = solution(world, test, at_rest)
        error = predict(params, test) - true
        return jnp.sqrt(jnp.sum(error**2) / jnp.sum(true**2))

    return Problem(
        horizon=shape["horizon"],
        batch_size=size if shape["fresh"] else 0,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative L2 error",
        # Second derivatives in f32 do not tell a better solution from this one.
        floor=2e-4,
    )


FAMILY = Family(
    trade="physics",
    shapes={
        "equation": ("boundary value", "transport"),
        "hidden": ((32,), (16, 16), (12, 12, 12)),
        "points": (24, 32),
        "fresh": (False, True),
        "horizon": (400, 1000, 1600),
    },
    build=build,
)
