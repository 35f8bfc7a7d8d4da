"""A recurrent network reads a sequence and answers at its end.

The cell is a GRU (Cho et al., 2014, "Learning phrase representations using RNN
encoder-decoder") or a plain tanh network (Elman, 1990, "Finding structure in time"). It
solves one of two tasks:

- ``adding``: of two channels, one holds random numbers and the other marks two of
  them, one in each half. The answer is their sum, less its mean (Hochreiter &
  Schmidhuber, 1997, "Long short-term memory", section 5.4). The stream is endless.
  Metric: squared error on 128 new sequences, over the variance of the sum.
- ``rows``: the network reads an 8x8 digit of scikit-learn row by row and classifies it.
  Metric: cross-entropy on 256 held-out digits.

An instance has its own scale of the initialisation, and its own noise on what is read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random

TEST = {"adding": 128, "rows": 256}
Params = dict[str, _layers.Dense]


class World(NamedTuple):
    gain: jax.Array  # f32[], of the initialisation
    noise: jax.Array  # f32[], standard deviation of the inputs' noise
    x: jax.Array  # f32[length, test, features], to be judged by
    answers: jax.Array  # f32[test] or i32[test]


def init(
    key: jax.Array, cell: str, sizes: tuple[int, int, int], gain: jax.Array
) -> Params:
    """Parameters for ``sizes`` of (features, units, outputs)."""
    features, units, outputs = sizes
    shapes = (features, units), (units, units), (units, outputs)
    if cell == "gru":
        shapes = (features, 3 * units), *shapes[1:], (units, 2 * units)
    layers = _layers.init_dense(key, *shapes, gain=gain)
    names = ("read", "recall", "answer", "gates")
    return dict(zip(names, layers, strict=False))


def answer(params: Params, x: jax.Array) -> jax.Array:
    """f32[length, batch, features] -> f32[batch, outputs]."""
    units = len(params["recall"]["kernel"])

    def plain(state, read):
        return jnp.tanh(read + _layers.dense(params["recall"], state)), None

    def gru(state, read):
        gates = read[:, units:] + _layers.dense(params["gates"], state)
        reset, keep = jnp.split(jax.nn.sigmoid(gates), 2, -1)
        recalled = _layers.dense(params["recall"], reset * state)
        candidate = jnp.tanh(read[:, :units] + recalled)
        return keep * state + (1.0 - keep) * candidate, None

    start = jnp.zeros((x.shape[1], units))
    read = _layers.dense(params["read"], x)
    state, _ = jax.lax.scan(gru if "gates" in params else plain, start, read)
    return _layers.dense(params["answer"], state)


def sums(chances: jax.Array, places: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The adding task: f32[length, batch, 2] and f32[batch].

    Args:
      chances: f32[length, batch], the numbers, uniform in [0, 1).
      places: f32[2, batch], uniform in [0, 1): where the marks stand in each half.
    """
    length = len(chances)
    first, second = _random.integers(places, length // 2)
    marks = jax.nn.one_hot(first, length, axis=0)
    marks += jax.nn.one_hot(second + length // 2, length, axis=0)
    return jnp.stack([chances, marks], -1), jnp.sum(chances * marks, 0) - 1.0


def build(shape: Shape) -> Problem:
    adding = shape["task"] == "adding"
    length, features, outputs = (shape["length"], 2, 1) if adding else (8, 8, 10)
    data, test, size = _data.digits(), TEST[shape["task"]], shape["batch"]

    def rows(x):
        return jnp.moveaxis(jnp.asarray(x).reshape(-1, 8, 8), 0, 1)

    def world(key):
        gain, noise, chances, places = _random.uniform(
            key, (), (), (length, test), (2, test)
        )
        x, answers = sums(chances, places)
        if not adding:
            x, answers = rows(data.test_x[:test]), data.test_labels[:test]
        return World(2.0 ** (2.0 * gain - 1.0), 0.2 * noise, x, jnp.asarray(answers))

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        noise, chances, places = _random.uniform(
            key, (length, size, features), (length, size), (2, size)
        )
        x, answers = sums(chances, places)
        if not adding:
            row = _random.integers(places[0], len(data.x))
            x, answers = rows(jnp.asarray(data.x)[row]), jnp.asarray(data.labels)[row]
        return x + 12.0**0.5 * world.noise * (noise - 0.5), answers

    def error(params, x, answers):
        given = answer(params, x)
        if adding:
            return 6.0 * jnp.mean(jnp.square(given[:, 0] - answers))
        return _layers.cross_entropy(given, answers)

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=lambda key, world: init(
            key, shape["cell"], (features, shape["units"], outputs), world.gain
        ),
        batch=batch,
        loss=lambda params, batch, key: (error(params, *batch), None),
        metric=lambda params, step, world: error(params, world.x, world.answers),
        metric_name="relative squared error" if adding else "held-out cross-entropy",
        # An error of a hundredth in a sum between 0 and 2; and about the standard error
        # over 256 digits.
        floor=6e-4 if adding else 0.03,
    )


FAMILY = Family(
    trade="recurrent",
    shapes={
        "task": ("adding", "rows"),
        "cell": ("gru", "plain"),
        "units": (8, 16),
        "length": (8, 12),  # of the adding task
        "batch": (16, 32),
        "horizon": (240, 480, 960),
    },
    build=build,
    # Plain gradient descent hardly leaves the plateau of the adding task.
    optimizers=("adam", "adamw", "rmsprop", "adagrad", "lion"),
)
