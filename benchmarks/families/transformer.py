"""A small character transformer learns prose from scratch.

One or two blocks (Vaswani et al., 2017, "Attention is all you need") predict each
character from those before it. Attention and MLP of a block work side by side and have
no biases, as in PaLM (Chowdhery et al., 2022, section 2); norms divide by the root mean
square (Zhang & Sennrich, 2019); positions are learnt, and the embedding is also the
last layer. All this needs fewer operations, so that it compiles and runs sooner.

The text is the Python language reference, which the standard library carries in
`pydoc_data.topics`; letters are in lower case, and one character stands for all rare
ones. An instance has its own part of the training text (a tenth of it or more), and its
own scale of the initialisation. Metric: cross-entropy per character, in nats, on 24
windows of the held-out last tenth.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random

HEADS = 2
TEST = 24  # windows
CHARACTERS = len(_data.ALPHABET)


class World(NamedTuple):
    gain: jax.Array  # f32[], of the initialisation
    first: jax.Array  # i32[], character where this instance's part of the text begins
    characters: jax.Array  # i32[], in this instance's part


def init(
    key: jax.Array,
    *,
    length: int,
    width: int,
    blocks: int = 1,
    gain: float | jax.Array = 1.0,
) -> dict:
    tables = (CHARACTERS, width), (length, width)
    block = (width, 5 * width), (3 * width, width)
    embedding, position, *kernels = _random.normal(key, *tables, *blocks * block)
    kernels = [kernel * (gain / len(kernel) ** 0.5) for kernel in kernels]
    return {
        "embedding": 0.2 * gain * embedding,
        "position": 0.2 * gain * position,
        "blocks": [
            {"gain": jnp.ones(width), "read": read, "write": write}
            for read, write in zip(kernels[::2], kernels[1::2], strict=True)
        ],
        "gain": jnp.ones(width),
    }


def rms_norm(gain: jax.Array, x: jax.Array) -> jax.Array:
    square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return gain * x * jax.lax.rsqrt(square + 1e-5)


def logits(params: dict, text: jax.Array) -> jax.Array:
    """i32[batch, length] -> f32[batch, length, characters]."""
    # A product with one-hots: its gradient is a product too, not a scatter.
    x = jax.nn.one_hot(text, CHARACTERS) @ params["embedding"] + params["position"]
    future = jnp.where(jnp.tri(text.shape[1], dtype=bool), 0.0, -1e9)
    width = x.shape[-1]
    for block in params["blocks"]:
        read = rms_norm(block["gain"], x) @ block["read"]
        heads, hidden = jnp.split(read, [3 * width], axis=-1)
        heads = heads.reshape(*text.shape, 3, HEADS, width // HEADS)
        query, key, value = heads.transpose(2, 0, 3, 1, 4)
        scores = query @ key.mT / (width / HEADS) ** 0.5 + future
        attended = (jax.nn.softmax(scores) @ value).swapaxes(1, 2).reshape(x.shape)
        written = jnp.concatenate([attended, jax.nn.relu(hidden)], axis=-1)
        x = x + written @ block["write"]
    return rms_norm(params["gain"], x) @ params["embedding"].T


def loss(params: dict, batch: jax.Array, key: jax.Array | None = None):
    """Of i32[batch, length + 1] characters: (f32[], None)."""
    del key
    return _layers.cross_entropy(logits(params, batch[:, :-1]), batch[:, 1:]), None


def tokens(prose: str) -> np.ndarray:
    """i32[characters] of any prose, as indices into `_data.ALPHABET`."""
    codes = {character: code for code, character in enumerate(_data.ALPHABET)}
    return np.array([codes.get(c, CHARACTERS - 1) for c in prose.lower()], np.int32)


def windows(text: np.ndarray, count: int, length: int) -> np.ndarray:
    """i32[count, length], evenly spaced over a text."""
    starts = np.linspace(0, len(text) - length, count).astype(int)
    return text[starts[:, None] + np.arange(length)]


def build(shape: Shape) -> Problem:
    text, size, length = _data.text(), shape["batch"], shape["length"] + 1
    sizes = {name: shape[name] for name in ("length", "width", "blocks")}
    judged = windows(text.test, TEST, length)

    def world(key):
        gain, first, characters = _random.uniform(key, (), (), ())
        characters = jnp.int32(len(text.train) * (0.1 + 0.9 * characters))
        return World(
            gain=2.0 ** (2.0 * gain - 1.0),
            first=_random.integers(first, len(text.train) - characters + 1),
            characters=characters,
        )

    def batch(key, step, world):
        (chances,) = _random.uniform(jax.random.fold_in(key, step), (size, 1))
        start = _random.integers(chances, world.characters - length + 1)
        return jnp.asarray(text.train)[world.first + start + jnp.arange(length)]

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=lambda key, world: init(key, **sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=lambda params, step, world: loss(params, jnp.asarray(judged))[0],
        metric_name="held-out nats per character",
        # The standard error over 24 windows.
        floor=0.07,
    )


FAMILY = Family(
    trade="language",
    shapes={
        "width": (12, 16),
        "blocks": (1, 2),
        "length": (12, 16),
        "batch": (4, 8),
        "horizon": (160, 240, 400),
    },
    build=build,
    # Nobody trains a transformer by plain gradient descent.
    optimizers=("adamw", "adam", "lion", "muon", "adafactor"),
)
