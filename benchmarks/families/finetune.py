"""A character transformer that has learnt prose is trained on other text.

The suite trains the checkpoint itself, once: the network of the family `transformer`
learns the Python language reference under AdamW with a cosine schedule. The file stays
in `.benchmarks`, under the hash of all that it depends on. Then one of three texts
follows:

- ``names``: the names of the characters of Unicode, one a line, in random order.
- ``backwards``: the reference, read from its end to its beginning.
- ``cipher``: the reference, every letter moved along the alphabet by a number of places
  that the instance draws (Caesar's cipher).

An instance has its own part of the training text, a hundredth of it or more: with
little text the network overfits, as it does in practice (Howard & Ruder, 2018,
"Universal language model fine-tuning for text classification"). Metric: cross-entropy
per character, in nats, on 32 windows of the held-out last tenth.
"""

import functools
import os
import tempfile
import unicodedata
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import hashes
from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _random, transformer

CACHE = Path(__file__).parents[2] / ".benchmarks"
LENGTH, WIDTH = 16, 16
STEPS, BATCH, RATE = 1500, 32, 1e-2  # of the checkpoint's training
TEST = 32  # windows
A = _data.ALPHABET.index("a")


class World(NamedTuple):
    first: jax.Array  # i32[], character where this instance's part of the text begins
    characters: jax.Array  # i32[], in this instance's part
    places: jax.Array  # i32[], that the cipher moves every letter by


@functools.cache
def texts(name: str) -> tuple[np.ndarray, np.ndarray]:
    """What is fine-tuned on, and its held-out last tenth: i32[characters] each."""
    if name == "cipher":
        return _data.text().train, _data.text().test
    if name == "backwards":
        return _data.text().train[::-1], _data.text().test[::-1]
    named = (unicodedata.name(chr(code), "") for code in range(0x3000))
    names = np.random.default_rng(0).permutation([name for name in named if name])
    tokens = transformer.tokens("\n".join(names))
    train, test = np.split(tokens, [len(tokens) * 9 // 10])
    return train, test


def moved(tokens: jax.Array, places: jax.Array) -> jax.Array:
    """The letters moved along the alphabet, round its end."""
    is_letter = (tokens >= A) & (tokens < A + 26)
    return jnp.where(is_letter, A + (tokens - A + places) % 26, tokens)


def checkpoint(blocks: int) -> dict:
    """Parameters that have learnt the reference, as NumPy arrays."""
    here = Path(__file__).parent
    files = (here / "_data.py", here / "_layers.py", here / "_random.py",
             here / "transformer.py", Path(__file__))  # fmt: skip
    depends_on = (
        [hashes.syntax_hash(file) for file in files],
        [int(part.sum()) for part in _data.text()],
        [jax.__version__, optax.__version__, blocks],
    )
    path = CACHE / f"checkpoint-{hashes.digest(depends_on)}.npz"
    of_shape = functools.partial(
        transformer.init, length=LENGTH, width=WIDTH, blocks=blocks
    )
    tree = jax.tree.structure(jax.eval_shape(of_shape, jax.random.key(0)))
    if not path.exists():
        params = jax.device_get(jax.jit(pretrained, static_argnums=0)(blocks))
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as file:
            np.savez_compressed(file, *jax.tree.leaves(params))
        os.replace(file.name, path)
    with np.load(path) as file:
        return jax.tree.unflatten(tree, [file[f"arr_{i}"] for i in range(len(file))])


def pretrained(blocks: int) -> dict:
    """The checkpoint's training, the same at every call."""
    key = jax.random.key(0)
    params = transformer.init(key, length=LENGTH, width=WIDTH, blocks=blocks)
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, STEPS // 20, STEPS)
    tx = optax.adamw(schedule)

    def step(carry, step):
        params, state = carry
        batch = _data.draw_text(key, step, BATCH, LENGTH + 1)
        grads, _ = jax.grad(transformer.loss, has_aux=True)(params, batch)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = params, tx.init(params)
    (params, _), _ = jax.lax.scan(step, carry, jnp.arange(STEPS))
    return params


def build(shape: Shape) -> Problem:
    start, (train, test) = checkpoint(shape["blocks"]), texts(shape["text"])
    size, length = shape["batch"], LENGTH + 1
    judged = transformer.windows(test, TEST, length)

    def world(key):
        first, share, places = _random.uniform(key, (), (), ())
        # Evenly spread on a logarithmic scale.
        characters = jnp.int32(len(train) * 0.01 ** (1.0 - share))
        return World(
            first=_random.integers(first, len(train) - characters + 1),
            characters=characters,
            places=1 + _random.integers(places, 25),
        )

    def read(tokens, world):
        return moved(tokens, world.places) if shape["text"] == "cipher" else tokens

    def batch(key, step, world):
        (chances,) = _random.uniform(jax.random.fold_in(key, step), (size, 1))
        first = _random.integers(chances, world.characters - length + 1)
        rows = world.first + first + jnp.arange(length)
        return read(jnp.asarray(train)[rows], world)

    def metric(params, step, world):
        del step
        return transformer.loss(params, read(jnp.asarray(judged), world))[0]

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=lambda key, world: jax.tree.map(jnp.asarray, start),
        batch=batch,
        loss=transformer.loss,
        metric=metric,
        metric_name="held-out nats per character",
        # The standard error over 32 windows.
        floor=0.07,
    )


FAMILY = Family(
    trade="fine-tuning",
    shapes={
        "text": ("names", "backwards", "cipher"),
        "blocks": (1, 2),
        "batch": (4, 8),
        "horizon": (80, 160, 320),
    },
    build=build,
    optimizers=transformer.FAMILY.optimizers,
)
