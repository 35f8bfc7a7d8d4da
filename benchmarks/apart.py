"""The law's claims once more on larger runs, apart from the suite.

The full MNIST (28x28, four epochs) and a character transformer on Tiny Shakespeare
(2,000 steps, width 24), five times as long as the suite's. Neither was looked at while
the law was developed. The oracle is cosine with warm-up at its best of ten rates, three
a decade.
"""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import experiment, hashes, peers, protocol, scoring, summary
from benchmarks.contract import EVALUATIONS, Problem
from benchmarks.families import _data, _layers, _random, transformer
from benchmarks.peers.inner import OPTIMIZERS

SEEDS = (0, 1, 2)
TUNING = (1000, 1001)
GRID = range(-5, 5)  # thirds of a decade around the optimizer's default
FACTORS = protocol.FACTORS
LENGTH, WIDTH, BATCH = 24, 24, 8  # of the transformer


class Apart(NamedTuple):
    """A run that is no draw of a family: it has one world."""

    name: str
    optimizer: str
    problem: Problem


def on_mnist(folder: Path, epochs: float = 4.0) -> Apart:
    """784-64-10 with ReLU under Adam, batches of 64; cross-entropy on the test set."""

    def read(name: str, header: int) -> np.ndarray:
        path = folder / f"{name}.gz"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file; give the folder of MNIST's four idx files, "
                "--mnist=mnist"
            )
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, -1, header)

    images, test_images = (
        read(f"{split}-images-idx3-ubyte", 16).reshape(-1, 784)
        for split in ("train", "t10k")
    )
    labels, test_labels = (
        read(f"{split}-labels-idx1-ubyte", 8).astype(np.int32)
        for split in ("train", "t10k")
    )

    def loss(params, batch, key):
        del key
        x, y = batch
        return _layers.cross_entropy(_layers.mlp(params, x / 255.0), y), None

    problem = Problem(
        world=lambda key: (),
        horizon=_whole(epochs * len(images) / 64),
        batch_size=64,
        init=lambda key, world: _layers.init_mlp(key, (784, 64, 10), gain=2**0.5),
        batch=lambda key, step, world: _data.draw(key, step, 64, images, labels),
        loss=loss,
        metric=lambda params, step, world: loss(
            params, (test_images, test_labels), None
        )[0],
        metric_name="test cross-entropy",
        floor=0.01,
    )
    return Apart("mnist", "adam", problem)


def on_text(file: Path, steps: int = 2000) -> Apart:
    """The suite's character transformer on another text, its last tenth held out."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give --text=input.txt")
    tokens = transformer.tokens(file.read_text("utf-8"))
    train, test = np.split(tokens, [len(tokens) * 9 // 10])
    length = LENGTH + 1
    if len(test) < length:
        raise ValueError(f"{file}: {len(tokens)} characters; {10 * length} are needed.")
    windows = transformer.windows(test, 200, length)

    def batch(key, step, world):
        del world
        (chances,) = _random.uniform(jax.random.fold_in(key, step), (BATCH, 1))
        first = _random.integers(chances, len(train) - length + 1)
        return jnp.asarray(train)[first + jnp.arange(length)]

    problem = Problem(
        world=lambda key: (),
        horizon=_whole(steps),
        batch_size=BATCH,
        init=lambda key, world: transformer.init(key, length=LENGTH, width=WIDTH),
        batch=batch,
        loss=transformer.loss,
        metric=lambda params, step, world: transformer.loss(
            params, jnp.asarray(windows)
        )[0],
        metric_name="held-out nats per character",
        floor=0.9,
    )
    return Apart("shakespeare", "adamw", problem)


class Runs(NamedTuple):
    """Final metrics of one peer, f32[rates, seeds]."""

    last: np.ndarray
    own: np.ndarray
    average: np.ndarray


def table(apart: Apart, seeds: tuple[int, ...] = SEEDS) -> Iterator[str]:
    """Run everything; the lines of a Markdown table as they come, in minutes each."""
    inner, problem = OPTIMIZERS[apart.optimizer], apart.problem
    rates = [inner.default_rate * 10 ** (k / 3) for k in GRID]

    def finals(peer: str, rates: list[float], seeds: tuple[int, ...]) -> Runs:
        one = np.asarray(rates)[:, None]  # of the one world
        curves = experiment.run(
            problem, peers.get(peer), inner.factory, one, (0,), seeds
        )
        cap = float(np.median(curves.last[..., 0]))
        return Runs(
            *(
                scoring.cleaned(kind[:, 0, :, -1], problem.floor, cap)
                for kind in (curves.last, curves.own, curves.average)
            )
        )

    def tuned(peer: str) -> tuple[float, np.ndarray]:
        best = rates[int(np.median(finals(peer, rates, TUNING).last, 1).argmin())]
        return best, finals(peer, [best], seeds).last[0]

    base, oracle = tuned("cosine")
    _, stable = tuned("warmup_stable_decay")
    asked = [base * factor for factor in FACTORS.values()]
    yield (
        f"**{apart.name}**, {problem.horizon} steps, {apart.optimizer}, "
        f"{problem.metric_name}: cosine {np.mean(oracle):.4f} at its best rate, "
        f"{base:.2g}; warm-up-stable-decay {np.mean(stable):.4f}. Each over the cosine "
        f"(mean of {len(seeds)} seeds, and the worst).\n"
    )
    yield "| | " + " | ".join(FACTORS) + " |"
    yield "|---" * (len(FACTORS) + 1) + "|"

    def row(name: str, metrics: np.ndarray, over: np.ndarray) -> str:
        ratio = metrics / over
        cells = (f"{np.exp(np.log(r).mean()):.2f} ({r.max():.2f})" for r in ratio)
        return f"| {name} | " + " | ".join(cells) + " |"

    pick: dict[str, tuple[str, Callable[[Runs], np.ndarray], Any]] = {
        "nudge": ("nudge", lambda runs: runs.own, oracle),
        "search": ("search", lambda runs: runs.own, oracle),
        "constant": ("constant", lambda runs: runs.last, oracle),
        "constant + average": ("constant", lambda runs: runs.average, oracle),
        "nudge with `total_steps`, last, over warm-up-stable-decay": (
            "nudge_horizon",
            lambda runs: runs.last,
            stable,
        ),
    }
    done: dict[str, Runs] = {}
    for name, (peer, kind, over) in pick.items():
        if peer not in done:
            done[peer] = finals(peer, asked, seeds)
        yield row(name, kind(done[peer]), over)


def apart(*, mnist: Path | None = None, text: Path | None = None) -> None:
    """The law's claims on two larger runs that are no part of a suite.

    Args:
      mnist: Folder with the four gzipped idx files of MNIST.
      text: Tiny Shakespeare, or any other text.
    """
    found = [
        make(path)
        for make, path in ((on_mnist, mnist), (on_text, text))
        if path is not None
    ]
    if not found:
        raise ValueError("no data; give --mnist FOLDER, --text FILE or both.")
    lines = []
    for workload in found:
        for line in table(workload):
            print(line, flush=True)
            lines.append(line)
        lines.append("")
    if len(found) == 2:
        head = (
            "# Apart from the suite\n\n`python -m benchmarks apart --mnist FOLDER "
            f"--text FILE`, law `{hashes.law_hash()}`.\n\n"
        )
        (summary.RESULTS / "apart.md").write_text(head + "\n".join(lines))


def _whole(steps: float) -> int:
    """The nearest length that can be evaluated."""
    return max(round(steps / EVALUATIONS), 1) * EVALUATIONS
