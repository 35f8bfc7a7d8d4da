"""Gains handed to an inner optimizer, step by step."""

import jax.numpy as jnp

from adaptive_optax.act import injection

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}


def gains(learning_rate=0.1, scale=1.0, momentum=0.9):
    return injection.Gains(*(jnp.float32(x) for x in (learning_rate, scale, momentum)))


def adapt(inner, *, momentum_wanted=False, **options):
    return injection.adapt(inner, gains(), momentum_wanted=momentum_wanted, **options)
