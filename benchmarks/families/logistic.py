r"""Logistic regression, the convex problem: a stream of labels from a noisy teacher.

The world draws the teacher's weights, so large that its logits have a standard
deviation of 1 to 4. No example comes twice. The features are of one of two kinds:

- dense: normal, in units that fall off from 1 to a 10th.
- sparse: feature i is present with probability (1 + i)^(-1/2), and then log-normal with
  random sign, like word counts, the case AdaGrad was made for (Duchi, Hazan & Singer,
  2011, "Adaptive subgradient methods for online learning and stochastic optimization").

Metric: the mean KL divergence of the model from the teacher on 512 held-out inputs,
which has no label noise.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _random

TEST = 512


class World(NamedTuple):
    weights: jax.Array  # f32[features], of the teacher
    bias: jax.Array  # f32[]
    gain: jax.Array  # f32[], of the initialisation


def build(shape: Shape) -> Problem:
    features = shape["features"]
    size, horizon = shape["batches"]

    def inputs(chances, magnitudes):
        """Of uniform numbers: f32[examples, features]."""
        # Inside (0, 1), for the normal quantiles of 0 and 1 are infinite.
        normal = jax.scipy.special.ndtri(jnp.clip(magnitudes, 1e-6, 1 - 1e-6))
        if shape["kind"] == "dense":
            return normal * jnp.geomspace(1.0, 0.1, features)
        frequency = (1.0 + jnp.arange(features)) ** -0.5
        # Half of the present ones get either sign.
        sign = jnp.sign(chances - 0.5 * frequency) * (chances < frequency)
        return sign * jnp.exp(0.75 * normal - 0.5)

    # Concrete, so that XLA does not spend seconds on drawing them while it compiles.
    uniform = np.random.default_rng(0).uniform(size=(2, TEST, features))
    test = np.asarray(inputs(*uniform.astype(np.float32)))

    def logits(params, x):
        return x @ params["weights"] + params["bias"]

    def world(key):
        weights, normals = _random.normal(key, (features,), (3,))
        bias, spread, gain = normals
        spread, gain = jax.scipy.stats.norm.cdf(jnp.stack([spread, gain]))
        return World(
            weights=weights * 4.0**spread / jnp.std(test @ weights),
            bias=0.5 * bias,
            gain=0.1 * 2.0 ** (2.0 * gain - 1.0),
        )

    def init(key, world):
        (weights,) = _random.normal(key, (features,))
        return {"weights": world.gain * weights, "bias": jnp.zeros([])}

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        chances, magnitudes, label_chances = _random.uniform(
            key, (size, features), (size, features), (size,)
        )
        x = inputs(chances, magnitudes)
        labels = label_chances < jax.nn.sigmoid(logits(world._asdict(), x))
        return x, labels.astype(jnp.float32)

    def loss(params, batch, key):
        del key
        x, labels = batch
        losses = optax.sigmoid_binary_cross_entropy(logits(params, x), labels)
        return jnp.mean(losses), None

    def metric(params, step, world):
        del step
        truth = logits(world._asdict(), test)
        chances = jax.nn.sigmoid(truth)
        cross = optax.sigmoid_binary_cross_entropy(logits(params, test), chances)
        entropy = optax.sigmoid_binary_cross_entropy(truth, chances)
        return jnp.mean(cross - entropy)

    return Problem(
        horizon=horizon,
        batch_size=size,
        world=world,
        init=init,
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="KL from the teacher",
        # What maximum likelihood on all the examples leaves on average: d / (2 B T).
        floor=features / (2 * size * horizon),
    )


FAMILY = Family(
    trade="classification",
    shapes={
        "kind": ("dense", "sparse"),
        "features": (16, 64),
        # Examples in a batch, and batches in a run.
        "batches": ((8, 3000), (32, 600), (128, 200), (512, 80)),
    },
    build=build,
)
