"""Train a policy on a cart-pole with a learning rate that the reward regulates.

    python examples/reward_cartpole.py               # three base rates, 16 seeds
    python examples/reward_cartpole.py --rates 1 --seeds 4 --updates 100
    python examples/reward_cartpole.py --env gymnax:Acrobot-v1    # extra "gymnax"

REINFORCE with a baseline (Williams, 1992) in pure JAX: a whole training is one
`jax.lax.scan`, and the seeds are trained side by side under `jax.vmap`. Three arms at
every base rate: the constant rate; the loop that is fed the reward; and the loop that
is fed the surrogate loss alone. The surrogate's level does not measure success, so the
third shows what the reward is for.

Prints how many episodes it took until the average return of an update's episodes
reached the goal, and draws the returns.
"""

import functools
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import adaptive_optax as ao
from examples.worlds import World, world_of

ARMS = ("constant", "reward", "loss")
MODES = ("nudge", "search", "safe")
COLORS = ("#0072B2", "#D55E00", "#009E73")  # told apart by everyone
BASE_RATE = 0.01  # of Adam: a usual guess for a network of this size
SMOOTH = 0.9  # decay of the average return: one update's episodes are few


@dataclass(frozen=True)
class Config:
    """What to run."""

    env: str = "cartpole"
    """``cartpole``, or ``gymnax:NAME`` for one of gymnax with discrete actions."""
    rates: tuple[float, ...] = (0.1, 1.0, 10.0)
    """Base rates, as multiples of 0.01."""
    seeds: int = 16
    """Trainings side by side."""
    updates: int = 200
    """Updates of the policy."""
    episodes: int = 8
    """Played for one update."""
    length: int = 200
    """Steps after which an episode is cut off."""
    goal: float = 195.0
    """Average return that counts as solved."""
    width: int = 32
    """Hidden units of the policy."""
    mode: str = "search"
    """How far to believe the base rate: nudge, search or safe."""
    output: Path = Path("cartpole.png")
    """Where to draw the returns."""


def network(key: jax.Array, inputs: int, width: int, outputs: int) -> dict:
    """The weights of one hidden layer, which says 0 at first."""
    return {
        "in": jax.random.normal(key, (inputs, width)) / np.sqrt(inputs),
        "bias": jnp.zeros(width),
        "out": jnp.zeros((width, outputs)),
    }


def logits(params: Any, seen: jax.Array) -> jax.Array:
    """Of a tanh network with one hidden layer."""
    return jnp.tanh(seen @ params["in"] + params["bias"]) @ params["out"]


def play(params: Any, world: World, key: jax.Array, length: int):
    """One episode: observations, actions, rewards, and whether it went on."""
    start, rest = jax.random.split(key)
    seen, state = world.reset(start)

    def tick(carry, key):
        seen, state, alive = carry
        choose, move = jax.random.split(key)
        action = jax.random.categorical(choose, logits(params, seen))
        after, state, reward, over = world.step(move, state, action)
        # What is over stays where it is, so that nothing overflows.
        after = jnp.where(alive, after, seen)
        told = seen, action, jnp.where(alive, reward, 0.0), alive
        return (after, state, alive & ~over), told

    keys = jax.random.split(rest, length)
    return jax.lax.scan(tick, (seen, state, jnp.ones((), bool)), keys)[1]


def surrogate(params: Any, episodes: Any, scale: float) -> jax.Array:
    """Its gradient is the mean return's; the baseline is the mean over the batch."""
    seen, actions, rewards, alive = episodes
    to_go = jnp.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    playing = jnp.maximum(jnp.sum(alive, axis=0, keepdims=True), 1)
    baseline = jnp.sum(to_go * alive, axis=0, keepdims=True) / playing
    advantage = jnp.where(alive, to_go - baseline, 0.0) / scale
    chosen = optax.softmax_cross_entropy_with_integer_labels(
        logits(params, seen), actions
    )
    return jnp.mean(jnp.sum(advantage * chosen, axis=1)) / scale


def train(config: Config, world: World, arm: str, rate: jax.Array, key: jax.Array):
    """One training: the average return, and the rate, after every update."""
    begin, playing = jax.random.split(key)
    params = network(begin, world.observations, config.width, world.actions)
    if arm == "constant":
        tx = optax.with_extra_args_support(optax.adam(rate))
    else:
        tx = ao.adaptive_scheduler(optax.adam, rate, mode=config.mode)

    def update(carry, step):
        params, state, average = carry
        keys = jax.random.split(jax.random.fold_in(playing, step), config.episodes)
        episodes = jax.vmap(lambda key: play(params, world, key, config.length))(keys)
        earned = jnp.mean(jnp.sum(episodes[2], axis=1))
        loss, grads = jax.value_and_grad(surrogate)(params, episodes, config.length)
        told = {"value": loss}
        if arm == "reward":
            told["reward"] = earned  # higher is better
        updates, state = tx.update(grads, state, params, **told)
        params = optax.apply_updates(params, updates)
        average = jnp.where(step == 0, earned, SMOOTH * average + (1 - SMOOTH) * earned)
        now = rate if arm == "constant" else ao.snapshot(state)["learning_rate"]
        return (params, state, average), (average, now)

    start = params, tx.init(params), jnp.zeros(())
    return jax.lax.scan(update, start, jnp.arange(config.updates))[1]


def episodes_to_goal(config: Config, averages: np.ndarray) -> np.ndarray:
    """f64[seeds]: episodes until the average return is at the goal; inf: never."""
    reached = averages >= config.goal
    first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
    return first * config.episodes


def check(config: Any, counts: tuple[str, ...]) -> None:
    """Fail on a number that no run can have.

    Raises:
      ValueError: If there is one.
    """
    for name in counts:
        if getattr(config, name) < 1:
            raise ValueError(
                f"--{name} must be at least 1, got {getattr(config, name)}"
            )
    if not config.rates:
        raise ValueError("--rates must name a base rate, got none; try --rates 0.1 1")
    for rate in config.rates:
        if not 0 < rate < math.inf:
            raise ValueError(f"--rates must be positive, got {rate}; try --rates 0.1 1")
    if not math.isfinite(config.goal):
        raise ValueError(f"--goal must be finite, got {config.goal}; try --goal 195")
    if config.mode not in MODES:
        raise ValueError(
            f"--mode must be nudge, search or safe, got {config.mode!r}; try "
            "--mode search"
        )


def main(config: Config) -> dict[tuple[float, str], float]:
    """Run, print and draw; returns the median episodes to the goal."""
    check(config, ("seeds", "updates", "episodes", "length", "width"))
    if not config.output.parent.is_dir():  # before the training, not after it
        raise ValueError(f"--output {config.output}: there is no such folder")
    world, keys = (
        world_of(config.env),
        jax.random.split(jax.random.key(0), config.seeds),
    )
    medians, curves = {}, {}
    for arm in ARMS:
        one = functools.partial(train, config, world, arm)
        every = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
        rates = BASE_RATE * jnp.asarray(config.rates, jnp.float32)
        averages, moved = map(np.asarray, every(rates, keys))
        for i, factor in enumerate(config.rates):
            spent = episodes_to_goal(config, averages[i])
            medians[factor, arm] = float(np.median(spent))
            curves[factor, arm] = averages[i], moved[i]
            print(
                f"x{factor:<5g} {arm:9s} median {np.median(spent):6.0f} episodes to "
                f"{config.goal:g}, {np.isfinite(spent).sum()}/{config.seeds} solved, "
                f"last average {np.median(averages[i][:, -1]):.0f}",
                flush=True,
            )
    draw(config, curves)
    print(f"the returns are drawn in {config.output}")
    return medians


def draw(config: Config, curves: dict[tuple[float, str], Any]) -> None:
    """Returns above, learning rates below, a column for each base rate."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2,
        len(config.rates),
        figsize=(4 * len(config.rates), 5),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    episodes = config.episodes * np.arange(1, config.updates + 1)
    for column, factor in enumerate(config.rates):
        for color, arm in zip(COLORS, ARMS, strict=True):
            for row, values in enumerate(curves[factor, arm]):
                low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
                axes[row, column].plot(episodes, middle, color=color, label=arm)
                axes[row, column].fill_between(
                    episodes, low, high, color=color, alpha=0.15, linewidth=0
                )
        axes[0, column].axhline(config.goal, color="0.6", linewidth=0.8)
        axes[0, column].set_title(f"base rate x{factor:g}")
        axes[1, column].set_yscale("log")
        axes[1, column].set_xlabel("episodes")
    axes[0, 0].set_ylabel("average return")
    axes[1, 0].set_ylabel("learning rate")
    axes[0, 0].legend(frameon=False)
    figure.suptitle(f"REINFORCE on {config.env}: median and quartiles of the seeds")
    figure.savefig(config.output, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except ValueError as error:
        sys.exit(f"error: {error}")
