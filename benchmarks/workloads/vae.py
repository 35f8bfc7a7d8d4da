r"""A variational autoencoder on the 8x8 digits.

64-48-6 and back with tanh, Bernoulli pixels, a Gaussian posterior under a standard
normal prior (Kingma & Welling, 2014, "Auto-encoding variational Bayes"). Data:
scikit-learn's digits, pixels taken as probabilities. Metric: negative evidence lower
bound on 256 held-out digits with fixed draws of the latents, less the entropy of their
pixels, which no model gets below; in nats per image. 600 steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contract import Workload
from benchmarks.workloads import _data, _layers

BATCH = 32
PIXELS, HIDDEN, LATENTS, TEST = 64, 48, 6, 256


def init(key: jax.Array) -> dict[str, list[_layers.Dense]]:
    encoder = (PIXELS, HIDDEN), (HIDDEN, 2 * LATENTS)
    decoder = (LATENTS, HIDDEN), (HIDDEN, PIXELS)
    layers = _layers.init_dense(key, *encoder, *decoder)
    return {"encoder": layers[:2], "decoder": layers[2:]}


def negative_bound(params, x: jax.Array, noise: jax.Array) -> jax.Array:
    """Reconstruction plus KL divergence in nats, the mean over images."""
    mean, log_scale = jnp.split(_layers.mlp(params["encoder"], x, jnp.tanh), 2, -1)
    latents = mean + jnp.exp(log_scale) * noise
    logits = _layers.mlp(params["decoder"], latents, jnp.tanh)
    reconstruction = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, x), -1)
    variance = jnp.exp(2.0 * log_scale)
    divergence = jnp.sum(0.5 * (mean**2 + variance - 1.0) - log_scale, -1)
    return jnp.mean(reconstruction + divergence)


def loss(params, batch, key):
    (x,) = batch
    noise = jax.random.normal(key, (BATCH, LATENTS))
    return negative_bound(params, x, noise), None


def workload() -> Workload:
    data = _data.digits()
    test_x = data.test_x[:TEST]
    noise = np.random.default_rng(0).normal(size=(TEST, LATENTS)).astype(np.float32)
    inside = np.clip(test_x, 1e-6, 1.0 - 1e-6)
    pixels = inside * np.log(inside) + (1.0 - inside) * np.log1p(-inside)
    entropy = -float(pixels.sum(axis=-1).mean())

    def metric(params, step):
        del step
        return negative_bound(params, test_x, noise) - entropy

    return Workload(
        name="vae",
        split="held_out",
        optimizer="rmsprop",
        horizon=600,
        batch_size=BATCH,
        init=init,
        batch=lambda key, step: _data.draw(key, step, BATCH, data.x),
        loss=loss,
        metric=metric,
        metric_name="held-out excess bound (nats)",
        # A nat an image, a tenth of what good runs end with.
        floor=1.0,
    )
