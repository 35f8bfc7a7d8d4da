"""Density estimation, where the loss falls below zero.

The data is a mixture of four isotropic Gaussians in two or four dimensions, in a small
unit: the world draws it between .02 and .2. The density is then far above one, and the
negative log-likelihood below zero, so whoever takes the ratio of two losses, or the
logarithm of one, is in trouble. The model is a mixture of eight Gaussians with diagonal
covariances, or a normalizing flow of affine coupling layers (Dinh, Sohl-Dickstein &
Bengio, 2017, "Density estimation using Real NVP"). Both start two to eight times as
wide as the unit. Every batch is fresh.

Metric: the KL divergence of the model q from the truth p, which is known, on 1024 fixed
draws. It is estimated as the mean of r - 1 - log r with r = q/p, which has the same
expectation as -log r and, unlike it, no negative term (Schulman, 2020, "Approximating
KL divergence").
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random

TRUE, COMPONENTS, TEST = 4, 8, 1024
WIDTH = 0.3  # of a true component, where the centres have a standard deviation of 1


class World(NamedTuple):
    unit: jax.Array  # f32[]
    centres: jax.Array  # f32[4, dimension]
    spread: jax.Array  # f32[], of the model at the start
    gain: jax.Array  # f32[], of the initialisation


def gaussians(x, centres, log_scales) -> jax.Array:
    """Log-densities f32[n, k] of x f32[n, d] under k diagonal Gaussians, f32[k, d]."""
    log_scales = jnp.broadcast_to(log_scales, centres.shape)
    z = (x[:, None] - centres) * jnp.exp(-log_scales)
    return -jnp.sum(0.5 * (z**2 + jnp.log(2.0 * jnp.pi)) + log_scales, -1)


def truth(x: jax.Array, world: World) -> jax.Array:
    each = gaussians(x, world.unit * world.centres, jnp.log(WIDTH * world.unit))
    return jax.nn.logsumexp(each, -1) - jnp.log(float(TRUE))


def mixture(params, x: jax.Array) -> jax.Array:
    each = gaussians(x, params["centres"], params["log_scales"])
    return jax.nn.logsumexp(each + jax.nn.log_softmax(params["logits"]), -1)


def flow(params, x: jax.Array) -> jax.Array:
    z = x * jnp.exp(-params["log_scale"]) - params["centre"]
    log_density = -jnp.sum(params["log_scale"])
    given, moved = jnp.split(z, 2, -1)
    for layers in params["couplings"]:
        scale, shift = jnp.split(_layers.mlp(layers, given, jnp.tanh), 2, -1)
        scale = 2.0 * jnp.tanh(0.5 * scale)
        given, moved = moved * jnp.exp(-scale) - shift, given
        log_density = log_density - jnp.sum(scale, -1)
    z = jnp.concatenate([given, moved], -1)
    return log_density - jnp.sum(0.5 * (z**2 + jnp.log(2.0 * jnp.pi)), -1)


def build(shape: Shape) -> Problem:
    dimension, size = shape["dimension"], shape["batch"]
    half, flows = dimension // 2, shape["model"] == "flow"
    log_density = flow if flows else mixture
    rng = np.random.default_rng(0)
    test_noise = rng.normal(size=(TEST, dimension)).astype(np.float32)
    test_labels = np.arange(TEST) % TRUE

    def world(key):
        centres, scalars = _random.normal(key, (TRUE, dimension), (3,))
        chances = jax.scipy.stats.norm.cdf(scalars)
        unit = 0.02 * 10.0 ** chances[0]
        return World(
            unit=unit,
            centres=centres,
            spread=unit * 2.0 * 4.0 ** chances[1],
            gain=2.0 ** (2.0 * chances[2] - 1.0),
        )

    def init(key, world):
        if not flows:
            (centres,) = _random.normal(key, (COMPONENTS, dimension))
            return {
                "centres": world.gain * world.unit * centres,
                "log_scales": jnp.full(centres.shape, jnp.log(world.spread)),
                "logits": jnp.zeros(COMPONENTS),
            }
        width, count = shape["width"], shape["couplings"]
        shapes = [(half, width), (width, dimension)] * count
        layers = _layers.init_dense(key, *shapes, gain=world.gain)
        return {
            "centre": jnp.zeros(dimension),
            "log_scale": jnp.full(dimension, jnp.log(world.spread)),
            "couplings": [layers[2 * i : 2 * i + 2] for i in range(count)],
        }

    def examples(world, labels, noise):
        return world.unit * (world.centres[labels] + WIDTH * noise)

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        noise, chances = _random.normal(key, (size, dimension), (size,))
        labels = _random.integers(jax.scipy.stats.norm.cdf(chances), TRUE)
        return examples(world, labels, noise)

    def metric(params, step, world):
        del step
        x = examples(world, test_labels, test_noise)
        log_ratio = log_density(params, x) - truth(x, world)
        # Nobody gets to e^30 but one who has diverged; the metric stays finite.
        return jnp.mean(jnp.expm1(jnp.minimum(log_ratio, 30.0)) - log_ratio)

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=init,
        batch=batch,
        loss=lambda params, x, key: (-jnp.mean(log_density(params, x)), None),
        metric=metric,
        metric_name="KL from the truth",
        # About what the estimate of a good model's divergence is uncertain by.
        floor=0.01,
    )


FAMILY = Family(
    trade="density",
    shapes={
        "model": ("mixture", "flow"),
        "dimension": (2, 4),
        "couplings": (2, 4),
        "width": (8, 16),
        "batch": (32, 64, 128),
        "horizon": (250, 500, 1000),
    },
    build=build,
)
