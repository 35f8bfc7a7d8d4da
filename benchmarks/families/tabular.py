"""Regression on small tables of real measurements, in columns of uneven scale.

- diabetes: the progress of 442 patients' disease after a year from 10 baseline
  measurements (Efron et al., 2004, "Least angle regression").
- cars: fuel consumption of 392 cars from 7 properties (Quinlan, 1993, "Combining
  instance-based and model-based learning").
- cells: the largest fractal dimension of the cell nuclei in 569 biopsies from the means
  and standard errors of 10 measurements (Street, Wolberg & Mangasarian, 1993, "Nuclear
  feature extraction for breast tumor diagnosis").

As in a table that nobody has normalised, the columns come centred but in units that
differ: the world draws their scale between 1/3 and 3. It draws the training rows too,
with replacement from three quarters of the table. The inputs get noise, which keeps the
rows from being learnt by heart. Metric: squared error on the other quarter over the
variance of its targets.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random


class Table(NamedTuple):
    """Standardised columns and targets."""

    x: np.ndarray  # f32[train, columns]
    y: np.ndarray  # f32[train]
    test_x: np.ndarray
    test_y: np.ndarray


class World(NamedTuple):
    rows: jax.Array  # i32[train], with replacement
    units: jax.Array  # f32[columns]
    noise: jax.Array  # f32[], of a standardised column
    gain: jax.Array  # f32[], of the initialisation


@functools.cache
def table(name: str) -> Table:
    if name == "diabetes":
        from sklearn.datasets import load_diabetes

        x, y = load_diabetes(return_X_y=True)
    elif name == "cars":
        from mlxtend.data import autompg_data

        x, y = autompg_data()
        x = x[:, :7]  # the last column is empty
    else:
        from sklearn.datasets import load_breast_cancer

        everything, _ = load_breast_cancer(return_X_y=True)
        x, y = everything[:, :20], everything[:, 29]
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    y = ((y - y.mean()) / y.std()).astype(np.float32)
    test = len(x) // 4
    return Table(x[test:], y[test:], x[:test], y[:test])


def build(shape: Shape) -> Problem:
    data = table(shape["table"])
    size, horizon = shape["batches"]
    rows, columns = data.x.shape
    sizes = (columns, *shape["hidden"], 1)

    def world(key):
        chances, units, noise, gain = _random.uniform(key, (rows,), (columns,), (), ())
        return World(
            rows=_random.integers(chances, rows),
            units=3.0 ** (2.0 * units - 1.0),
            noise=0.1 + 0.3 * noise,
            gain=2.0 ** (2.0 * gain - 1.0),
        )

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        chances, noise = _random.uniform(key, (size,), (size, columns))
        drawn = world.rows[_random.integers(chances, rows)]
        # Uniform noise of that standard deviation comes from the same draw.
        noise = world.noise * 12**0.5 * (noise - 0.5)
        x = jnp.asarray(data.x)[drawn] + noise
        return x * world.units, jnp.asarray(data.y)[drawn]

    def squared_error(params, x, targets):
        return jnp.mean(jnp.square(_layers.mlp(params, x)[:, 0] - targets))

    def loss(params, batch, key):
        del key
        return squared_error(params, *batch), None

    def metric(params, step, world):
        del step
        error = squared_error(params, data.test_x * world.units, data.test_y)
        return error / np.var(data.test_y)

    return Problem(
        horizon=horizon,
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="relative squared error",
        # A hundred rows cannot tell a smaller one apart.
        floor=0.02,
    )


FAMILY = Family(
    trade="regression",
    shapes={
        "table": ("diabetes", "cars", "cells"),
        "hidden": ((16,), (64,), (16, 16), (32, 32)),
        # Examples in a batch, and batches in a run.
        "batches": ((16, 800), (32, 400), (64, 160), (256, 80)),
    },
    build=build,
)
