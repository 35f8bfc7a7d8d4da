"""Layers that several workloads are made of: plain functions on dicts of arrays."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from benchmarks.families import _random

Dense = dict[str, jax.Array]


def init_dense(
    key: jax.Array, *shapes: tuple[int, int], gain: float = 1.0
) -> list[Dense]:
    """Layers of (inputs, outputs): weights of variance gain²/inputs, zero biases."""
    return [
        {"kernel": kernel * (gain / len(kernel) ** 0.5), "bias": jnp.zeros(outputs)}
        for kernel, (_, outputs) in zip(
            _random.normal(key, *shapes), shapes, strict=True
        )
    ]


def dense(params: Dense, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"]


def init_mlp(key: jax.Array, sizes: Sequence[int], gain: float = 1.0) -> list[Dense]:
    return init_dense(key, *zip(sizes[:-1], sizes[1:], strict=True), gain=gain)


def mlp(
    params: list[Dense],
    x: jax.Array,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
) -> jax.Array:
    for layer in params[:-1]:
        x = activation(dense(layer, x))
    return dense(params[-1], x)


def layer_norm(gain: jax.Array, x: jax.Array) -> jax.Array:
    return gain * jax.nn.standardize(x, epsilon=1e-5)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over all labels, in nats."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses)
