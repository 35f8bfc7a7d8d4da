"""Train an MLP on MNIST with a learning rate that regulates itself.

    python examples/mnist.py                                 # 5,000 images, no download
    python examples/mnist.py --learning-rate 0.1 --mode search --compare
    python examples/mnist.py --ablate                        # what each mechanism earns
    python examples/mnist.py --data-dir ~/mnist --epochs 5   # all 70,000

Prints the test accuracy and draws the loop, every gain at every step, and which layers
rested when.
"""

import dataclasses
import functools
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from tqdm import tqdm

import adaptive_optax as ao
from examples import mechanisms
from examples.mechanisms import SKIPPED, Outcome
from examples.mnist_config import Config, check, make_optimizer
from examples.mnist_data import Dataset, bundled_mnist, idx_mnist

CHUNKS = range(25, 100)  # steps in one jitted scan, between two looks at the loss


class MLP(nnx.Module):
    """784-128-64-10."""

    def __init__(self, rngs: nnx.Rngs):
        """Random weights."""
        self.hidden1 = nnx.Linear(784, 128, rngs=rngs)
        self.hidden2 = nnx.Linear(128, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        return self.out(nnx.relu(self.hidden2(nnx.relu(self.hidden1(x)))))


def prepare(images: np.ndarray, labels: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Flat images in [0, 1]."""
    flat = images.reshape(len(images), -1).astype(np.float32) / 255.0
    return jnp.asarray(flat), jnp.asarray(labels, jnp.int32)


def loss_fn(model: MLP, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy."""
    losses = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
    return losses.mean()


validation = nnx.jit(loss_fn)


@nnx.jit
def accuracy(model: MLP, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of images told right."""
    return jnp.mean(jnp.argmax(model(images), axis=-1) == labels)


def skipping_gradient(
    model: MLP, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, Any, jax.Array]:
    """Loss, gradient, and the share of its work that frozen layers have saved."""
    graph, params = nnx.split(model, nnx.Param)
    layers = ao.block_labels(params)
    gradient = ao.frozen_value_and_grad(
        lambda params: loss_fn(nnx.merge(graph, params), images, labels), layers
    )
    skip = ao.skip_mask(optimizer.opt_state, params)
    masks, names = jax.tree.leaves(skip), jax.tree.leaves(layers)
    return *gradient(params, skip), gradient.flops(params).share(masks, names)


@functools.partial(nnx.jit, static_argnames="freezing")
def train_chunk(
    model: MLP,
    optimizer: nnx.Optimizer,
    images: jax.Array,
    labels: jax.Array,
    order: np.ndarray,
    *,
    freezing: bool,
) -> dict[str, jax.Array]:
    """One step for every row of ``order``; what the loop did at each."""

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def step(carry, batch):
        model, optimizer = carry
        x, y = images[batch], labels[batch]
        told = {}
        if freezing:
            loss, grads, told[SKIPPED] = skipping_gradient(model, optimizer, x, y)
        else:
            loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
        optimizer.update(model, grads, value=loss)  # the feedback that closes the loop
        if freezing:
            params = nnx.state(model, nnx.Param)
            layers = ao.block_labels(params)
            told |= mechanisms.frozen_blocks(optimizer.opt_state, params, layers)
        return carry, {**ao.snapshot(optimizer.opt_state), **told, "loss": loss}

    return step((model, optimizer), order)[1]


class Run(NamedTuple):
    """What one training came to."""

    history: ao.History
    averaged: tuple[float, float]  # test loss and accuracy, of the averaged parameters
    last: tuple[float, float]  # the same, of the last step's
    seconds: float  # CPU time of a step, without compilation


def batches_of(config: Config, count: int) -> np.ndarray:
    """Which images each step sees, i64[steps, batch]."""
    rng, size = np.random.default_rng(config.seed), config.batch_size
    epochs = np.stack([rng.permutation(count) for _ in range(config.epochs)])
    return epochs[:, : count // size * size].reshape(-1, size)


def train(name: str, config: Config, data: Dataset) -> Run:
    """One run from its first step to its last."""
    images, labels = prepare(*data.train)
    order, test = batches_of(config, len(labels)), prepare(*data.test)
    # One program for all seeds: the noise is the same for all, nothing else is.
    tx = make_optimizer(dataclasses.replace(config, seed=0), len(order))
    model = MLP(nnx.Rngs(config.seed))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    freezing = config.control and config.freeze_threshold > 0

    # A length that divides the run spares a second compilation for the rest.
    chunk = min(CHUNKS, key=lambda n: (len(order) % n > 0, abs(n - 50)))
    history, seconds = ao.History(), []
    print(f"{name}: compiling ...", flush=True)
    with tqdm(total=len(order), desc=name, unit="step", mininterval=0.5) as bar:
        for start in range(0, len(order), chunk):
            steps = order[start : start + chunk]
            wall, cpu = time.perf_counter(), time.process_time()
            told = train_chunk(
                model, optimizer, images, labels, steps, freezing=freezing
            )
            jax.block_until_ready(told)
            seconds.append((time.process_time() - cpu) / len(steps))
            if start == 0:
                bar.write(f"{name}: compiled in {time.perf_counter() - wall:.1f} s")
            base = np.full(len(steps), config.learning_rate)
            seen = np.full(len(steps), np.nan)
            seen[-1] = validation(model, *test)
            history.extend({"learning_rate": base, "validation_loss": seen, **told})
            bar.set_postfix_str(progress(told), refresh=False)
            bar.update(len(steps))

    last = float(validation(model, *test)), float(accuracy(model, *test))
    params = nnx.state(model, nnx.Param)
    nnx.update(model, ao.eval_params(optimizer.opt_state, params))
    averaged = float(validation(model, *test)), float(accuracy(model, *test))
    return Run(history, averaged, last, float(np.median(seconds[1:] or seconds)))


def progress(stacked: dict[str, jax.Array]) -> str:
    """The last step of a chunk, in a line."""
    now = {key: float(x[-1]) for key, x in stacked.items() if x.ndim == 1}
    if "sigma" not in now:  # the optimizer alone
        return f"loss {now['loss']:.4f}"
    return (
        "loss {loss:.4f}, lr {learning_rate:.2e}, mu {momentum:.3f}, "
        "sigma {sigma:.1e}, {frozen_fraction:.0%} frozen"
    ).format(**now)


def ablation(config: Config, data: Dataset) -> str:
    """The table of the runs that lack one mechanism each."""

    def run(name: str, config: Config) -> Outcome:
        found = train(f"{name}, seed {config.seed}", config, data)
        # Without the loop nothing is averaged: the last parameters are what one has.
        loss, right = found.averaged if config.control else found.last
        skipped = found.history.as_dict().get(SKIPPED, np.zeros(1)).mean()
        return Outcome(loss, found.last[0], found.seconds, float(skipped), right)

    return mechanisms.ablate(config, run, config.seeds)


def main(config: Config) -> float:
    """Run, print and draw; returns the test accuracy."""
    data = bundled_mnist() if config.data_dir is None else idx_mnist(config.data_dir)
    check(config, len(data.train[1]))
    rate, told = config.learning_rate, f"{config.optimizer}, {config.mode} from"
    history, (_, averaged), (_, last), _ = train(
        f"{config.mode} {rate:g}", config, data
    )
    print(f"test accuracy {averaged:.4f} (of the averaged parameters)")
    print(f"last step's   {last:.4f}")
    runs = {f"{told} {rate:g}": history}

    if config.compare:
        alone = dataclasses.replace(config, control=False)
        plain = train(f"constant {rate:g}", alone, data)
        runs[f"{config.optimizer}, constant {rate:g}"] = plain.history
        mean = plain.averaged[1]
        print(f"constant rate {mean:.4f} (averaged), last step's {plain.last[1]:.4f}")
        print(f"ratio         {averaged / mean:.4f} of the averages")

    title = (
        f"MNIST, {config.optimizer} from {rate:g}: {averaged:.4f} of the test images"
    )
    runs = runs if config.compare else history
    ao.plot_history(runs, title=title, path=config.output)
    print(f"the loop is drawn in {config.output}")
    layers = config.output.with_stem(f"{config.output.stem}_freezing")
    if mechanisms.draw_freezing(history, "MNIST, layers that rest", layers):
        print(f"what has rested is drawn in {layers}")
    if config.ablate:
        print(ablation(config, data))
    return averaged


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
