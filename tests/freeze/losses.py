"""Losses, one for each construct that a backward pass can be made of."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

WIDTH, BATCH, LAYERS = 8, 4, 3


def matrix(seed: int, *shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return (jax.random.normal(jax.random.key(seed), shape) / 3).astype(dtype)


def inputs(seed: int = 7) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (BATCH, WIDTH))


def layers(dtype: Any = jnp.float32) -> dict[str, Any]:
    blocks = [
        {"w": matrix(i, WIDTH, WIDTH, dtype=dtype), "b": jnp.full(WIDTH, 0.1, dtype)}
        for i in range(LAYERS)
    ]
    return {
        "blocks": blocks,
        "embed": matrix(10, WIDTH, WIDTH, dtype=dtype),
        "head": matrix(11, WIDTH, 2, dtype=dtype),
    }


def stacked_layers() -> dict[str, Any]:
    params = layers()
    params["blocks"] = jax.tree.map(lambda *x: jnp.stack(x), *params["blocks"])
    return params


def dense(x: jax.Array, p: dict[str, jax.Array]) -> jax.Array:
    return jax.nn.gelu(x @ p["w"] + p["b"])


def unrolled(params, x, layer=dense):
    x = jnp.tanh(x.astype(params["embed"].dtype) @ params["embed"])
    for p in params["blocks"]:
        x = x + layer(x, p)
    return jnp.mean(jnp.square(x @ params["head"])).astype(jnp.float32)


def scanned(params, x, layer=dense, **options):
    x = jnp.tanh(x @ params["embed"])
    x, _ = jax.lax.scan(
        lambda x, p: (x + layer(x, p), None), x, params["blocks"], **options
    )
    return jnp.mean(jnp.square(x @ params["head"]))


def nested(params, x):
    """A scan in a scan, over the rows of the input and over the layers."""

    def row(total, one):
        one, _ = jax.lax.scan(lambda x, p: (dense(x, p), x[0]), one, params["blocks"])
        return total + one, one

    total, each = jax.lax.scan(row, jnp.zeros(WIDTH), x @ params["embed"])
    return jnp.mean(jnp.square(total @ params["head"])) + jnp.mean(each)


def backwards(params, x):
    """The last layer first: row i of a gradient is of another iteration."""
    last_first = jax.tree.map(lambda w: 2 * jnp.flip(w, 0), params["blocks"])
    return scanned({**params, "blocks": last_first}, x)


def columns(params, x):
    """Each layer scales by a sum of all rows: no row is of one iteration alone."""

    def layer(x, gain):
        return x + jnp.tanh(gain * (x @ params["embed"])), None

    x, _ = jax.lax.scan(layer, x, params["blocks"]["gains"].sum(0))
    return jnp.mean(jnp.square(x @ params["head"]))


def recurrent(params, x):
    """Weights shared by all iterations: their gradients are carried."""

    def cell(state, x):
        state = jnp.tanh(state @ params["recur"] + x @ params["embed"])
        return state, state @ params["head"]

    last, outputs = jax.lax.scan(cell, jnp.zeros(WIDTH), x)
    return jnp.mean(jnp.square(outputs)) + jnp.mean(last)


@jax.custom_vjp
def clipped_backwards(x):
    return x


clipped_backwards.defvjp(
    lambda x: (x, x), lambda x, g: (jnp.clip(g, -1.0, 1.0) + 0 * jnp.sin(x),)
)


@jax.custom_jvp
def smooth_relu(x):
    return jnp.maximum(x, 0.0)


smooth_relu.defjvp(lambda x, dx: (smooth_relu(x[0]), jax.nn.sigmoid(4 * x[0]) * dx[0]))


def branching(params, x):
    x = jnp.tanh(x @ params["embed"])
    for i, p in enumerate(params["blocks"]):
        x = jax.lax.cond(
            x[0, 0] > 0.1 * i, functools.partial(dense, p=p), lambda x: x, x
        )
        x = jax.lax.fori_loop(0, 2, lambda _, x: 0.9 * x, x)
    steps = jax.lax.while_loop(lambda n: n < 3, lambda n: n + 1, 0)
    return jnp.mean(jnp.square(x @ params["head"])) * steps


def attention(params, x):
    x = x @ params["embed"]
    for p in params["blocks"]:
        q, k, v = x @ p["w"], x * p["b"], x
        x = x + jax.nn.softmax(q @ k.T) @ v
    table = params["table"][jnp.argmax(x, -1)]
    return jnp.mean(jnp.square((x + table) @ params["head"]))


def convolution(params, x):
    image = x.reshape(1, BATCH, WIDTH, 1)
    for kernel in params["kernels"]:
        image = jax.nn.relu(
            jax.lax.conv_general_dilated(
                image,
                kernel,
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        )
    pooled = jax.lax.reduce_window(
        image, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    return jnp.mean(pooled @ params["head"])
