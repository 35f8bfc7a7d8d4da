r"""REINFORCE on CartPole: the workload that has a reward.

The cart-pole of Barto, Sutton & Anderson, 1983, "Neuronlike adaptive elements that can
solve difficult learning control problems", with the constants and the explicit Euler
step of Gymnasium's CartPole-v1, cut off after 200 steps. A 4-16-1 tanh network gives
the logit of a push to the right; the gradient is that of Williams, 1992, on 4 episodes,
with the mean return-to-go of the same time step over the batch as its baseline. Metric:
regret, 200 less the mean return of 32 episodes with fixed keys. 80 steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contract import Workload
from benchmarks.workloads import _layers

GRAVITY, CART, POLE, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5  # m/s², kg, kg, m
FORCE, TICK = 10.0, 0.02  # N, s
MAX_POSITION, MAX_ANGLE = 2.4, 0.20943951  # m, 12 degrees
EPISODES, TEST = 4, 32
MAX_RETURN = 200  # one reward for every step that is begun upright


def physics(state: jax.Array, force: jax.Array) -> jax.Array:
    """One tick of (position, velocity, angle, angular velocity), f32[..., 4]."""
    position, velocity, angle, spin = jnp.moveaxis(state, -1, 0)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    total, moment = CART + POLE, POLE * HALF_LENGTH
    push = (force + moment * spin**2 * sine) / total
    inertia = HALF_LENGTH * (4.0 / 3.0 - POLE * cosine**2 / total)
    spin_rate = (GRAVITY * sine - cosine * push) / inertia
    acceleration = push - moment * spin_rate * cosine / total
    rates = jnp.stack([velocity, acceleration, spin, spin_rate], -1)
    return state + TICK * rates


def upright(state: jax.Array) -> jax.Array:
    inside = jnp.abs(state[..., 0]) <= MAX_POSITION
    return inside & (jnp.abs(state[..., 2]) <= MAX_ANGLE)


def logit(params: list[_layers.Dense], state: jax.Array) -> jax.Array:
    return _layers.mlp(params, state, jnp.tanh)[..., 0]


def rollout(params, start: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
    """States, pushes and rewards, each with time first."""

    def tick(carry, chance):
        state, alive = carry
        right = (chance < jax.nn.sigmoid(logit(params, state))).astype(jnp.float32)
        after = physics(state, FORCE * (2.0 * right - 1.0))
        # A fallen pole stays where it fell, so that nothing overflows.
        after = jnp.where(alive[:, None], after, state)
        return (after, alive & upright(after)), (state, right, alive)

    chances = jax.random.uniform(key, (MAX_RETURN, len(start)))
    alive = jnp.ones(len(start), bool)
    _, (states, rights, alive) = jax.lax.scan(tick, (start, alive), chances)
    return states, rights, alive.astype(jnp.float32)


def starts(key: jax.Array, size: int) -> jax.Array:
    return jax.random.uniform(key, (size, 4), minval=-0.05, maxval=0.05)


def loss(params, batch, key):
    states, rights, rewards = rollout(jax.lax.stop_gradient(params), batch, key)
    to_go = jnp.cumsum(rewards[::-1], axis=0)[::-1]
    advantage = rewards * (to_go - jnp.mean(to_go, axis=1, keepdims=True))
    log_loss = optax.sigmoid_binary_cross_entropy(logit(params, states), rights)
    returns = jnp.sum(rewards, axis=0)
    return jnp.mean(jnp.sum(advantage * log_loss, 0)) / MAX_RETURN, jnp.mean(returns)


def workload() -> Workload:
    test_starts = np.asarray(starts(jax.random.key(0), TEST))

    def metric(params, step):
        del step
        rewards = rollout(params, test_starts, jax.random.key(1))[2]
        return MAX_RETURN - jnp.mean(jnp.sum(rewards, axis=0))

    return Workload(
        name="cartpole",
        split="held_out",
        optimizer="adam",
        horizon=80,
        batch_size=EPISODES,
        init=lambda key: _layers.init_mlp(key, (4, 16, 1)),
        batch=lambda key, step: starts(jax.random.fold_in(key, step), EPISODES),
        loss=loss,
        metric=metric,
        metric_name="regret",
        # Half a percent of the greatest return: 32 episodes cannot tell less apart.
        floor=1.0,
    )
