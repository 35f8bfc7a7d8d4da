"""A variational autoencoder of the 8x8 digits.

A tanh network and back, a Gaussian posterior under a standard normal prior (Kingma &
Welling, 2014, "Auto-encoding variational Bayes"). The pixels are Bernoulli, or they
are Gaussian with a standard deviation that the world draws between .1 and .3; then the
loss is up to ten times as large. The world also draws 1000 training images with
replacement and the scale of the initialisation. Metric: negative evidence lower bound
on 256 held-out digits with fixed draws of the latents, in nats per image. Subtracted is
what a perfect reconstruction costs, so no model gets below zero.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random

PIXELS, EXAMPLES, TEST = 64, 1000, 256


class World(NamedTuple):
    x: jax.Array  # f32[examples, 64]
    scale: jax.Array  # f32[], standard deviation of Gaussian pixels
    gain: jax.Array  # f32[], of the initialisation


def build(shape: Shape) -> Problem:
    data = _data.digits()
    width, latents, size = shape["width"], shape["latents"], shape["batch"]
    test_x = data.test_x[:TEST]
    rng = np.random.default_rng(0)
    test_noise = rng.normal(size=(TEST, latents)).astype(np.float32)
    gaussian = shape["pixels"] == "gaussian"
    # A perfect Gaussian reconstruction costs nothing, for its constant is left out.
    inside = np.clip(test_x, 1e-6, 1.0 - 1e-6)
    pixels = inside * np.log(inside) + (1.0 - inside) * np.log1p(-inside)
    perfect = 0.0 if gaussian else -float(pixels.sum(axis=-1).mean())

    def world(key):
        chances, scale, gain = _random.uniform(key, (EXAMPLES,), (), ())
        return World(
            x=jnp.asarray(data.x)[_random.integers(chances, len(data.x))],
            scale=0.1 * 3.0**scale,
            gain=2.0 ** (1.5 * gain - 1.0),
        )

    def init(key, world):
        encoder = (PIXELS, width), (width, 2 * latents)
        decoder = (latents, width), (width, PIXELS)
        layers = _layers.init_dense(key, *encoder, *decoder, gain=world.gain)
        return {"encoder": layers[:2], "decoder": layers[2:]}

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        chances, noise = _random.normal(key, (size,), (size, latents))
        rows = _random.integers(jax.scipy.stats.norm.cdf(chances), EXAMPLES)
        return world.x[rows], noise, world.scale

    def negative_bound(params, x, noise, scale):
        """Reconstruction plus KL divergence in nats, the mean over images."""
        mean, log_scale = jnp.split(_layers.mlp(params["encoder"], x, jnp.tanh), 2, -1)
        latents = mean + jnp.exp(log_scale) * noise
        output = _layers.mlp(params["decoder"], latents, jnp.tanh)
        if gaussian:
            losses = 0.5 * ((output - x) / scale) ** 2
        else:
            losses = optax.sigmoid_binary_cross_entropy(output, x)
        variance = jnp.exp(2.0 * log_scale)
        divergence = jnp.sum(0.5 * (mean**2 + variance - 1.0) - log_scale, -1)
        return jnp.mean(jnp.sum(losses, -1) + divergence)

    def metric(params, step, world):
        del step
        return negative_bound(params, test_x, test_noise, world.scale) - perfect

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=init,
        batch=batch,
        loss=lambda params, batch, key: (negative_bound(params, *batch), None),
        metric=metric,
        metric_name="held-out excess bound (nats)",
        # A nat an image: rounding to 17 levels costs as much at the smallest scale.
        floor=1.0,
    )


FAMILY = Family(
    trade="autoencoders",
    shapes={
        "width": (16, 24, 32),
        "latents": (2, 4, 8),
        "pixels": ("bernoulli", "gaussian"),
        "batch": (16, 32, 64),
        "horizon": (200, 400, 640),
    },
    build=build,
)
