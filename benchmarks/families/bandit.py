"""REINFORCE on a contextual bandit, with a reward.

A softmax policy, a tanh network, picks an arm for each Gaussian context of 8 numbers.
Arm a of context x pays a unit with probability sigmoid(s f_a(x)), f a random tanh
network, else nothing. The world draws f, the sharpness s (2 to 8), the unit of the pay
(.1 to 10) and the scale of the initialisation. The gradient is that of Williams, 1992,
with the batch's mean pay as its baseline, so the level of the surrogate loss says
nothing of success. Metric: regret, the best arm's expected pay less the policy's, over
512 contexts, as a share of what picking at random regrets.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random

CONTEXT, HIDDEN, TEST = 8, 16, 512


class World(NamedTuple):
    first: jax.Array  # f32[context, hidden]
    second: jax.Array  # f32[hidden, arms]
    unit: jax.Array  # f32[], of the pay
    gain: jax.Array  # f32[], of the initialisation


def chances(world: World, x: jax.Array) -> jax.Array:
    """Probability that an arm pays, f32[n, arms]."""
    return jax.nn.sigmoid(jnp.tanh(x @ world.first) @ world.second)


def build(shape: Shape) -> Problem:
    arms, size = shape["arms"], shape["batch"]
    sizes = (CONTEXT, *[shape["width"]] * shape["depth"], arms)
    test = np.random.default_rng(1).normal(size=(TEST, CONTEXT)).astype(np.float32)

    def world(key):
        first, second, scalars = _random.normal(
            key, (CONTEXT, HIDDEN), (HIDDEN, arms), (3,)
        )
        sharp, unit, gain = jax.scipy.stats.norm.cdf(scalars)
        return World(
            first=first / CONTEXT**0.5,
            second=2.0 * 4.0**sharp * second / HIDDEN**0.5,
            unit=10.0 ** (2.0 * unit - 1.0),
            gain=2.0 ** (2.0 * gain - 1.0),
        )

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        x, luck = _random.normal(key, (size, CONTEXT), (2, size))
        pick, pay = jax.scipy.stats.norm.cdf(luck)
        pays = world.unit * (pay[:, None] < chances(world, x))
        return x, pick[:, None], pays

    def loss(params, batch, key):
        del key
        x, pick, pays = batch
        log_policy = jax.nn.log_softmax(_layers.mlp(params, x, jnp.tanh))
        below = jnp.cumsum(jax.lax.stop_gradient(jnp.exp(log_policy)), -1) <= pick
        arm = jnp.minimum(jnp.sum(below, -1, keepdims=True), arms - 1)
        pay = jnp.take_along_axis(pays, arm, 1)[:, 0]
        chosen = jnp.take_along_axis(log_policy, arm, 1)[:, 0]
        return -jnp.mean((pay - jnp.mean(pay)) * chosen), jnp.mean(pay)

    def metric(params, step, world):
        del step
        expected = chances(world, test)
        best = jnp.mean(jnp.max(expected, 1))
        policy = jax.nn.softmax(_layers.mlp(params, test, jnp.tanh))
        regret = best - jnp.mean(jnp.sum(policy * expected, 1))
        return regret / (best - jnp.mean(expected))

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative regret",
        # About the standard error over 512 contexts.
        floor=0.02,
    )


FAMILY = Family(
    trade="reinforcement",
    shapes={
        "arms": (4, 6, 10),
        "width": (16, 32),
        "depth": (1, 2),
        "batch": (16, 32, 64),
        "horizon": (300, 600, 1500),
    },
    build=build,
)
