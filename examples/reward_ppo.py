"""Train a policy by PPO with a learning rate that the reward regulates.

    python -m examples.reward_ppo               # three base rates, 16 seeds
    python -m examples.reward_ppo --rates 1 --seeds 4 --updates 50
    python -m examples.reward_ppo --env gymnax:CartPole-v1        # extra "gymnax"

Proximal policy optimization (Schulman et al., 2017) on the cart-pole of
`examples.reward_cartpole`, in pure JAX: a whole training is one `jax.lax.scan`, and the
seeds are trained side by side under `jax.vmap`. One update plays whole episodes and
then takes ``epochs * batches`` steps of Adam on them. The loop hears the loss at every
step, and the mean return at the first one after the episodes were played.

Prints how many episodes it took until the average return of an update's episodes
reached the goal: with the constant rate, and with the loop.
"""

import functools
import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import adaptive_optax as ao
from examples.reward_cartpole import (
    SMOOTH,
    check,
    episodes_to_goal,
    logits,
    network,
    play,
)
from examples.worlds import World, world_of

ARMS = ("constant", "reward")
BASE_RATE = 2.5e-4  # of Adam: ppo.py of CleanRL (Huang et al., 2022)
CLIP, ENTROPY, VALUE, GRADIENT = 0.2, 0.01, 0.5, 0.5  # likewise
DISCOUNT, LAMBDA = 0.99, 0.95  # likewise


@dataclass(frozen=True)
class Config:
    """What to run."""

    env: str = "cartpole"
    """``cartpole``, or ``gymnax:NAME`` for one of gymnax with discrete actions."""
    rates: tuple[float, ...] = (0.1, 1.0, 10.0)
    """Base rates, as multiples of 2.5e-4."""
    seeds: int = 16
    """Trainings side by side."""
    first_seed: int = 0
    """Of the trainings."""
    updates: int = 200
    """Times that episodes are played."""
    episodes: int = 8
    """Played for one update."""
    epochs: int = 4
    """Times that an update goes over its episodes."""
    batches: int = 4
    """Steps of Adam in one epoch."""
    length: int = 200
    """Steps after which an episode is cut off."""
    goal: float = 195.0
    """Average return that counts as solved."""
    width: int = 64
    """Hidden units of the policy, and of the value."""
    mode: str = "nudge"
    """How far to believe the base rate: nudge, search or safe."""


def advantages(rewards: jax.Array, values: jax.Array, alive: jax.Array) -> jax.Array:
    """Generalized advantage estimates (Schulman et al., 2016), like the rewards."""
    after = jnp.pad(values * alive, ((0, 0), (0, 1)))[:, 1:]
    surprise = (1 - DISCOUNT) * rewards + DISCOUNT * after - values

    def back(later, now):
        surprise, alive = now
        later = jnp.where(alive, surprise + DISCOUNT * LAMBDA * later, 0.0)
        return later, later

    swapped = surprise.T, alive.T
    return jax.lax.scan(back, jnp.zeros(len(rewards)), swapped, reverse=True)[1].T


def loss_of(params: Any, batch: Any) -> jax.Array:
    """The clipped surrogate, the value's squared error, and the entropy."""
    seen, actions, before, gain, target, alive = batch
    count = jnp.maximum(jnp.sum(alive), 1)

    def mean(x):
        return jnp.sum(jnp.where(alive, x, 0.0)) / count

    logs = jax.nn.log_softmax(logits(params["policy"], seen))
    ratio = jnp.exp(jnp.take_along_axis(logs, actions[:, None], 1)[:, 0] - before)
    centre = mean(gain)
    gain = (gain - centre) / (jnp.sqrt(mean((gain - centre) ** 2)) + 1e-8)
    clipped = jnp.clip(ratio, 1 - CLIP, 1 + CLIP)
    policy = -mean(jnp.minimum(ratio * gain, clipped * gain))
    error = mean((logits(params["value"], seen)[:, 0] - target) ** 2)
    entropy = -mean(jnp.sum(jnp.exp(logs) * logs, axis=1))
    return policy + VALUE * 0.5 * error - ENTROPY * entropy


def batches_of(config: Config, params: Any, episodes: Any, key: jax.Array) -> Any:
    """The steps of all episodes in random batches, (epochs * batches, size, ...)."""
    seen, actions, rewards, alive = episodes
    values = logits(params["value"], seen)[..., 0]
    logs = jax.nn.log_softmax(logits(params["policy"], seen))
    before = jnp.take_along_axis(logs, actions[..., None], 2)[..., 0]
    gain = advantages(rewards, values, alive)
    told = seen, actions, before, gain, gain + values, alive
    steps = config.episodes * config.length
    size = steps // config.batches
    keys = jax.random.split(key, config.epochs)
    order = jax.vmap(lambda key: jax.random.permutation(key, steps))(keys)
    order = order[:, : size * config.batches].reshape(-1, size)
    return jax.tree.map(lambda x: x.reshape(steps, *x.shape[2:])[order], told)


def train(config: Config, world: World, arm: str, rate: jax.Array, key: jax.Array):
    """One training: the average return, and the rate, after every update."""
    of_policy, of_value, playing = jax.random.split(key, 3)
    params = {
        "policy": network(of_policy, world.observations, config.width, world.actions),
        "value": network(of_value, world.observations, config.width, 1),
    }
    adam = functools.partial(optax.adam, eps=1e-5)
    if arm == "constant":
        tx = adam(rate)
    else:
        tx = ao.adaptive_scheduler(adam, rate, mode=config.mode)
    tx = optax.chain(optax.clip_by_global_norm(GRADIENT), tx)

    def step(carry, now):
        (params, state), (batch, earned) = carry, now
        loss, grads = jax.value_and_grad(loss_of)(params, batch)
        told = {} if arm == "constant" else {"value": loss, "reward": earned}
        updates, state = tx.update(grads, state, params, **told)
        return (optax.apply_updates(params, updates), state), None

    def update(carry, count):
        params, state, average = carry
        shuffle, *keys = jax.random.split(
            jax.random.fold_in(playing, count), config.episodes + 1
        )
        episodes = jax.vmap(
            lambda key: play(params["policy"], world, key, config.length)
        )(jnp.stack(keys))
        earned = jnp.mean(jnp.sum(episodes[2], axis=1))
        batches = batches_of(config, params, episodes, shuffle)
        # It is news once: NaN says that there is no other reading.
        rewards = jnp.full(config.epochs * config.batches, jnp.nan).at[0].set(earned)
        (params, state), _ = jax.lax.scan(step, (params, state), (batches, rewards))
        average = jnp.where(
            count == 0, earned, SMOOTH * average + (1 - SMOOTH) * earned
        )
        now = rate if arm == "constant" else ao.snapshot(state)["learning_rate"]
        return (params, state, average), (average, now)

    start = params, tx.init(params), jnp.zeros(())
    return jax.lax.scan(update, start, jnp.arange(config.updates))[1]


def main(config: Config) -> dict[tuple[float, str], float]:
    """Run and print; returns the median episodes to the goal."""
    names = "seeds", "updates", "episodes", "epochs", "batches", "length", "width"
    check(config, names)
    if config.batches > (steps := config.episodes * config.length):
        raise ValueError(
            f"--batches {config.batches} exceeds the {steps} steps of --episodes "
            f"{config.episodes} of --length {config.length}"
        )
    world = world_of(config.env)
    seeds = config.first_seed + jnp.arange(config.seeds)
    keys = jax.vmap(jax.random.key)(seeds)
    rates = BASE_RATE * jnp.asarray(config.rates, jnp.float32)
    medians = {}
    for arm in ARMS:
        one = functools.partial(train, config, world, arm)
        every = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
        averages, moved = map(np.asarray, every(rates, keys))
        for i, factor in enumerate(config.rates):
            spent = episodes_to_goal(config, averages[i])
            medians[factor, arm] = float(np.median(spent))
            print(
                f"x{factor:<5g} {arm:9s} median {np.median(spent):6.0f} episodes to "
                f"{config.goal:g}, {np.isfinite(spent).sum()}/{config.seeds} solved, "
                f"last average {np.median(averages[i][:, -1]):.0f}, "
                f"last rate {np.median(moved[i][:, -1]):.2g}",
                flush=True,
            )
    return medians


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except ValueError as error:
        sys.exit(f"error: {error}")
