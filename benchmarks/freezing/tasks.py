"""What is trained end to end: an MLP on MNIST, and a GPT's fine-tune on source code.

Nothing is downloaded: the images are those of examples/mnist.py, the texts the manual
and the library that come with Python.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import timing
from benchmarks.families import _layers
from benchmarks.freezing import gpt
from benchmarks.models import GPTConfig

WIDTHS = (784, 512, 512, 512, 10)  # of the MLP
BYTES = GPTConfig(blocks=6, width=128, heads=4, tokens=64, words=256, batch=8)


class Task(NamedTuple):
    """A training run, with and without freezing."""

    name: str
    params: Any
    loss: Callable[..., jax.Array]  # of (params, batch)
    batches: Any  # stacked, one row a step
    validate: Callable[[Any], tuple[jax.Array, jax.Array]]  # loss, accuracy
    settings: dict[str, dict[str, Any]]  # of `freeze_by_grad_norm`, by name
    rate: float = 1e-3


def mnist(seed: int, *, data_dir: Path | None = None, drift: bool = False) -> Task:
    """An MLP on the images of examples/mnist.py.

    With a drift every digit is called by the next one's name after half of the run:
    what rests then must wake.
    """
    from examples import mnist as example

    data = example.bundled_mnist() if data_dir is None else example.idx_mnist(data_dir)
    images, targets = (jnp.asarray(x) for x in example.prepare(*data.train))
    test = tuple(jnp.asarray(x) for x in example.prepare(*data.test))
    keys = jax.random.split(jax.random.key(seed), len(WIDTHS) - 1)
    params = [
        {
            "kernel": jax.random.normal(key, (m, n)) * (2 / m) ** 0.5,
            "bias": jnp.zeros(n),
        }
        for key, m, n in zip(keys, WIDTHS[:-1], WIDTHS[1:], strict=True)
    ]

    def loss(params, batch):
        rows, shift = batch
        logits = _layers.mlp(params, images[rows])
        return _layers.cross_entropy(logits, (targets[rows] + shift) % 10)

    @jax.jit
    def validate(params):
        logits, labels = _layers.mlp(params, test[0]), (test[1] + drift) % 10
        right = jnp.argmax(logits, -1) == labels
        return _layers.cross_entropy(logits, labels), right.mean()

    rng = np.random.default_rng(seed)
    epochs = 20 if drift else 10
    order = np.concatenate([rng.permutation(len(targets)) for _ in range(epochs)])
    order = jnp.asarray(order[: len(order) // 128 * 128].reshape(-1, 128))
    shift = drift & (jnp.arange(len(order)) * 2 >= len(order))
    initial = {"relative_to": "initial", "warmup": 30}
    return Task(
        name="MNIST MLP, labels drift" if drift else "MNIST MLP",
        params=params,
        loss=loss,
        batches=(order, shift.astype(jnp.int32)),
        validate=validate,
        settings={
            "below .1 of its own early norm": {"threshold": 0.1, **initial},
            "below .3": {"threshold": 0.3, **initial},
        },
    )


def finetune(seed: int) -> Task:
    """From the manual's English to source code; the seed orders the data."""
    code = library_text("argparse", "ast", "inspect", "typing", "subprocess")
    held_out = windows(library_text("dataclasses"), BYTES, 16, 0)
    model = gpt.gpt(BYTES)

    @jax.jit
    def validate(params):
        def of_batch(ids):
            guess = jnp.argmax(gpt.logits(params, ids, config=BYTES), -1)
            right = guess == ids[:, 1:].reshape(-1)
            return model.loss(params, ids), right.mean()

        losses, accuracies = jax.lax.map(of_batch, held_out)
        return losses.mean(), accuracies.mean()

    # Its norms do not fall, they grow: none is ever far below its own early one.
    quiet = {"threshold": 0.2, "relative_to": "largest", "warmup": 50, "min_dwell": 50}
    half = {**quiet, "max_fraction": 0.5}
    return Task(
        name="GPT fine-tune",
        params=pretrained(BYTES, 2000),
        loss=model.loss,
        batches=windows(code, BYTES, 300, seed),
        validate=validate,
        settings={
            "below .2 of the largest norm, half at most": half,
            "below .2 of the largest norm": quiet,
        },
        rate=3e-4,
    )


@functools.cache
def pretrained(config: GPTConfig, steps: int) -> Any:
    """A byte model of English: the reference manual that comes with Python."""
    seed = 1000
    model = gpt.gpt(config)
    tx = optax.adamw(optax.warmup_cosine_decay_schedule(0, 2e-3, 50, steps))
    step = jax.jit(timing.stepper(tx, model.loss), donate_argnums=(0, 1))
    params = model.init(jax.random.key(seed))
    state = tx.init(params)
    for ids in windows(library_text("pydoc_data.topics"), config, steps, seed):
        params, state = step(params, state, ids)
    return params


def library_text(*modules: str) -> np.ndarray:
    """Bytes of the sources of these standard modules: text that is always there."""
    found = [importlib.util.find_spec(name) for name in modules]
    parts = [Path(str(spec.origin)).read_bytes() for spec in found if spec]
    return np.frombuffer(b"".join(parts), np.uint8)


def windows(text: np.ndarray, config: GPTConfig, steps: int, seed: int) -> jax.Array:
    """i32[steps, batch, tokens] cut from the text at random places."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, len(text) - config.tokens, (steps, config.batch))
    return jnp.asarray(text[starts[..., None] + np.arange(config.tokens)], jnp.int32)
