"""Embeddings of users and items, most of which are not in a batch.

A factorization with biases is the model (Koren, Bell & Volinsky, 2009, "Matrix
factorization techniques for recommender systems"): the score of a user and an item is
the inner product of their embeddings plus a bias each. The ids follow Zipf's law with
an exponent between 1.02 and 1.3, so a few rows are in every batch and most rows get no
gradient for many steps; Adagrad was made for that (Duchi, Hazan & Singer, 2011). The
labels are ratings (the true score, of rank 4, plus noise) or clicks (true with the
probability sigmoid(score)). The loss is the mean over the pairs of a batch, or their
sum, which gives a rare row the same gradient whatever the batch size. Metric, on 1024
fixed pairs with the same frequencies: the squared error of the true rating over its
variance, or the KL divergence from the true probability of a click.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _random

RANK, TEST = 4, 1024


class World(NamedTuple):
    table: jax.Array  # f32[2, rows, rank + 1], the true embeddings and biases
    exponent: jax.Array  # f32[2], of Zipf's law, of users and of items
    noise: jax.Array  # f32[], standard deviation of a rating
    gain: jax.Array  # f32[], of the initialisation


def zipf(chances: jax.Array, exponent: jax.Array, rows: int) -> jax.Array:
    """Uniform numbers as ids in [0, rows): a power law, cut off and rounded down."""
    slope = 1.0 - exponent
    inside = jnp.log1p(chances * jnp.expm1(slope * jnp.log(rows + 1.0))) / slope
    return jnp.clip(jnp.exp(inside).astype(jnp.int32) - 1, 0, rows - 1)


def score(table: jax.Array, pairs: jax.Array) -> jax.Array:
    """The score of (user, item) pairs, i32[n, 2]; the last column is the bias."""
    user, item = table[0][pairs[:, 0]], table[1][pairs[:, 1]]
    return jnp.sum(user[:, :-1] * item[:, :-1], -1) + user[:, -1] + item[:, -1]


def build(shape: Shape) -> Problem:
    rows, rank, size = shape["rows"], shape["rank"], shape["batch"]
    clicks = shape["labels"] == "clicks"
    rng = np.random.default_rng(0)
    test_chances = rng.uniform(size=(TEST, 2)).astype(np.float32)

    def world(key):
        table, scalars = _random.normal(key, (2, rows, RANK + 1), (4,))
        chances = jax.scipy.stats.norm.cdf(scalars)
        # Inner products of variance 1 and biases of variance 1/4 each.
        factors = jnp.asarray([RANK**-0.25] * RANK + [0.5])
        return World(
            table=table * factors * (1.5**0.5 if clicks else 1.0),
            exponent=1.02 + 0.28 * chances[:2],
            noise=0.1 + 0.4 * chances[2],
            gain=2.0 ** (2.0 * chances[3] - 1.0),
        )

    def init(key, world):
        (table,) = _random.normal(key, (2, rows, rank + 1))
        # The scores start with a standard deviation of .1, and the biases at zero.
        factors = jnp.asarray([0.1**0.5 * rank**-0.25] * rank + [0.0])
        return {"table": world.gain * factors * table}

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        chances, label = _random.uniform(key, (size, 2), (size,))
        pairs = zipf(chances, world.exponent, rows)
        truth = score(world.table, pairs)
        if clicks:
            return pairs, (label < jax.nn.sigmoid(truth)).astype(jnp.float32)
        # Uniform noise of the same variance comes from the same draw.
        return pairs, truth + world.noise * 12**0.5 * (label - 0.5)

    def loss(params, batch, key):
        del key
        pairs, labels = batch
        scores = score(params["table"], pairs)
        if clicks:
            losses = optax.sigmoid_binary_cross_entropy(scores, labels)
        else:
            losses = 0.5 * (scores - labels) ** 2
        return (jnp.sum(losses) if shape["sum"] else jnp.mean(losses)), None

    def metric(params, step, world):
        del step
        pairs = zipf(test_chances, world.exponent, rows)
        truth, scores = score(world.table, pairs), score(params["table"], pairs)
        if not clicks:
            return jnp.mean((scores - truth) ** 2) / jnp.var(truth)
        chance = jax.nn.sigmoid(truth)
        entropy = optax.sigmoid_binary_cross_entropy(truth, chance)
        losses = optax.sigmoid_binary_cross_entropy(scores, chance)
        return jnp.mean(losses - entropy)

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=init,
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="KL from the truth" if clicks else "relative squared error",
        # About a tenth of what the longest runs end with.
        floor=0.005,
    )


FAMILY = Family(
    trade="embeddings",
    shapes={
        "rows": (100, 200, 400),
        "rank": (4, 8),
        "labels": ("ratings", "clicks"),
        "sum": (False, True),
        "batch": (16, 32, 64),
        "horizon": (400, 1000, 3000),
    },
    build=build,
    optimizers=("adagrad",),
)
