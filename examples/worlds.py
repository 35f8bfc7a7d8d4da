"""Environments as pure functions: a cart-pole, and those of gymnax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class World(NamedTuple):
    """An environment as two pure functions."""

    reset: Callable[[jax.Array], tuple[jax.Array, Any]]  # key -> observation, state
    # (key, state, action) -> observation, state, reward, bool[] it is over
    step: Callable[..., tuple[jax.Array, Any, jax.Array, jax.Array]]
    observations: int
    actions: int


def cartpole() -> World:
    """Gymnasium's CartPole-v1 (Barto, Sutton, Anderson, 1983), one for each step."""

    def reset(key):
        state = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return state, state

    def step(key, state, action):
        del key
        x, v, angle, spin = state
        push = jnp.where(action == 1, 10.0, -10.0)
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        force = (push + 0.05 * spin**2 * sine) / 1.1
        turn = 9.8 * sine - cosine * force
        turn /= 0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1)
        slide = force - 0.05 * turn * cosine / 1.1
        state = state + 0.02 * jnp.stack([v, slide, spin, turn])
        over = (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > 0.20943951)
        return state, state, jnp.float32(1), over

    return World(reset, step, 4, 2)


def gymnax(name: str) -> World:
    """An environment of gymnax, whose observations are flattened."""
    try:
        import gymnax as library
    except ImportError as error:
        raise ValueError(
            f'--env gymnax:{name} needs pip install "adaptive_optax[gymnax]"'
        ) from error
    environment, parameters = library.make(name)
    size = int(np.prod(environment.observation_space(parameters).shape))

    def reset(key):
        seen, state = environment.reset(key, parameters)
        return jnp.ravel(seen), state

    def step(key, state, action):
        seen, state, reward, ended, cut_off, _ = environment.step(
            key, state, action, parameters
        )
        return jnp.ravel(seen), state, jnp.float32(reward), ended | cut_off

    return World(reset, step, size, int(environment.action_space(parameters).n))


def world_of(name: str) -> World:
    """The environment that a name stands for."""
    if name == "cartpole":
        return cartpole()
    if name.startswith("gymnax:"):
        return gymnax(name.removeprefix("gymnax:"))
    raise ValueError(f"--env must be cartpole or gymnax:NAME, got {name!r}")
