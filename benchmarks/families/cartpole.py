"""REINFORCE on a cart-pole, with a reward.

The cart-pole of Barto, Sutton & Anderson, 1983, "Neuronlike adaptive elements that can
solve difficult learning control problems", with the explicit Euler step and the limits
of Gymnasium's CartPole-v1, cut off after 100 or 200 steps. Every step that is begun
within the limits has a reward of at most one: for an upright pole in the middle of the
track, and less towards the limits, as in the DeepMind Control Suite (Tassa et al.,
2018). A reward of one for each step would be earned in full by many policies. The world
draws gravity, the push, the mass and the length of the pole, each around Gymnasium's
value, and the scale of the initialisation.

A tanh network gives the logit of a push to the right; the gradient is that of Williams,
1992, with the mean return-to-go of the same time step over the batch as its baseline.
Metric: regret, one less the mean reward of a step over 32 episodes with fixed chances.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random

CART, TICK = 1.0, 0.02  # kg, s
MAX_POSITION, MAX_ANGLE = 2.4, 0.20943951  # m, 12 degrees
TEST = 32


class World(NamedTuple):
    gravity: jax.Array  # m/s²
    force: jax.Array  # N
    pole: jax.Array  # kg
    half_length: jax.Array  # m
    gain: jax.Array  # of the initialisation


class Episodes(NamedTuple):
    world: World
    start: jax.Array  # f32[episodes, 4]
    chances: jax.Array  # f32[time, episodes], which decide between left and right


def world(key: jax.Array) -> World:
    (chances,) = _random.uniform(key, (5,))
    factors = 2.0 ** (2.0 * chances - 1.0)
    return World(
        gravity=9.8 * factors[0] ** 0.5,
        force=10.0 * factors[1] ** 0.5,
        pole=0.1 * factors[2],
        half_length=0.5 * factors[3],
        gain=factors[4],
    )


def physics(world: World, state: jax.Array, force: jax.Array) -> jax.Array:
    """One tick of (position, velocity, angle, angular velocity), f32[..., 4]."""
    _, velocity, angle, spin = jnp.moveaxis(state, -1, 0)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    total, moment = CART + world.pole, world.pole * world.half_length
    push = (force + moment * spin**2 * sine) / total
    inertia = world.half_length * (4.0 / 3.0 - world.pole * cosine**2 / total)
    spin_rate = (world.gravity * sine - cosine * push) / inertia
    acceleration = push - moment * spin_rate * cosine / total
    rates = jnp.stack([velocity, acceleration, spin, spin_rate], -1)
    return state + TICK * rates


def reward(state: jax.Array) -> jax.Array:
    """In [0, 1]; zero at the limits and beyond them."""
    position, angle = state[..., 0] / MAX_POSITION, state[..., 2] / MAX_ANGLE
    return jax.nn.relu(1.0 - position**2) * jax.nn.relu(1.0 - angle**2)


def logit(params: list[_layers.Dense], state: jax.Array) -> jax.Array:
    return _layers.mlp(params, state, jnp.tanh)[..., 0]


def rollout(params, episodes: Episodes) -> tuple[jax.Array, ...]:
    """States, pushes and rewards, each with time first."""
    world = episodes.world

    def tick(carry, chance):
        state, alive = carry
        right = (chance < jax.nn.sigmoid(logit(params, state))).astype(jnp.float32)
        after = physics(world, state, world.force * (2.0 * right - 1.0))
        # A fallen pole stays where it fell, so that nothing overflows.
        after = jnp.where(alive[:, None], after, state)
        now = jnp.where(alive, reward(state), 0.0)
        return (after, alive & (reward(after) > 0.0)), (state, right, now)

    alive = jnp.ones(len(episodes.start), bool)
    start = episodes.start, alive
    return jax.lax.scan(tick, start, episodes.chances)[1]


def build(shape: Shape) -> Problem:
    greatest, size = shape["cut_off"], shape["episodes"]
    rng = np.random.default_rng(0)
    test_start = rng.uniform(-0.05, 0.05, size=(TEST, 4)).astype(np.float32)
    test_chances = rng.uniform(size=(greatest, TEST)).astype(np.float32)

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        start, chances = _random.uniform(key, (size, 4), (greatest, size))
        return Episodes(world, 0.1 * start - 0.05, chances)

    def loss(params, batch, key):
        del key
        states, rights, rewards = rollout(jax.lax.stop_gradient(params), batch)
        to_go = jnp.cumsum(rewards[::-1], axis=0)[::-1]
        advantage = to_go - jnp.mean(to_go, axis=1, keepdims=True)
        advantage = jnp.where(rewards > 0.0, advantage, 0.0)  # nobody pushes any more
        log_loss = optax.sigmoid_binary_cross_entropy(logit(params, states), rights)
        surrogate = jnp.mean(jnp.sum(advantage * log_loss, 0)) / greatest
        return surrogate, jnp.mean(jnp.sum(rewards, axis=0))

    def metric(params, step, world):
        del step
        rewards = rollout(params, Episodes(world, test_start, test_chances))[2]
        return 1.0 - jnp.mean(rewards)

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(
            key, (4, shape["width"], 1), gain=world.gain
        ),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="regret",
        # 32 episodes cannot tell less apart.
        floor=0.01,
    )


FAMILY = Family(
    trade="reinforcement",
    shapes={
        "width": (8, 16),
        "episodes": (4, 8),
        "cut_off": (100, 200),
        "horizon": (80, 160, 240),
    },
    build=build,
)
