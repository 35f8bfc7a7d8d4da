"""The models that cost is measured on: a small classifier, and a GPT of any size.

Parameters are float32 dicts, the loss is pure JAX, a batch is made once and used again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Model(NamedTuple):
    """What a timed step needs."""

    init: Callable[[jax.Array], Any]  # key -> parameters
    loss: Callable[[Any, Any], jax.Array]  # (parameters, batch) -> f32[]
    batch: Callable[[jax.Array], Any]  # key -> batch


class GPTConfig(NamedTuple):
    """Sizes of a pre-norm decoder with tied embeddings and no biases."""

    blocks: int
    width: int
    heads: int
    tokens: int
    words: int
    batch: int
    # One block, stacked and rematerialised under `jax.lax.scan`, as large models are
    # trained, or one set of leaves a block.
    scan: bool = False
    # Of the activations, and of the weights where they are used.
    dtype: Any = jnp.float32


GPT_5M = GPTConfig(blocks=6, width=256, heads=8, tokens=128, words=512, batch=8)
# 50,257 words, padded to a multiple of 128 as the matrix units like it.
GPT2_SMALL = GPTConfig(12, 768, 12, 1024, 50304, 4, scan=True, dtype=jnp.bfloat16)
NANO = GPTConfig(2, 32, 2, 16, 256, 2, scan=True, dtype=jnp.bfloat16)


def mlp() -> Model:
    """A 64-64-10 classifier, batch 32."""
    sizes = (64, 64, 10)

    def init(key):
        keys = jax.random.split(key, len(sizes) - 1)
        return [
            {"kernel": jax.random.normal(k, (m, n)) / m**0.5, "bias": jnp.zeros(n)}
            for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]

    def loss(params, batch):
        x, labels = batch
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        logits = x @ params[-1]["kernel"] + params[-1]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def batch(key):
        of_inputs, of_labels = jax.random.split(key)
        x = jax.random.normal(of_inputs, (32, sizes[0]))
        return x, jax.random.randint(of_labels, (32,), 0, sizes[-1])

    return Model(init, loss, batch)


def norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """``x`` with mean 0 and variance 1 along its last axis, scaled, in float32."""
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return scale * x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)


@functools.cache  # the same functions again, so that JAX finds them compiled
def gpt(config: GPTConfig) -> Model:
    """A decoder; its batch is i32[batch, tokens] and it predicts the next token."""
    width, dtype = config.width, config.dtype

    def init(key):
        of_words, of_positions, *of_blocks = jax.random.split(key, config.blocks + 2)
        make = jax.vmap(block) if config.scan else lambda keys: [*map(block, keys)]
        return {
            "words": matrix(of_words, config.words, width),
            "positions": matrix(of_positions, config.tokens, width),
            "blocks": make(jnp.stack(of_blocks)),
            "scale": jnp.ones(width),
        }

    def matrix(key, m, n):
        return 0.02 * jax.random.normal(key, (m, n))

    def block(key):
        keys = jax.random.split(key, 4)
        return {
            "attend": matrix(keys[0], width, 3 * width),
            "project": matrix(keys[1], width, width),
            "up": matrix(keys[2], width, 4 * width),
            "down": matrix(keys[3], 4 * width, width),
            "scale": jnp.ones((2, width)),
        }

    def apply(x, p):
        weights = {name: leaf.astype(dtype) for name, leaf in p.items()}
        qkv = norm(x, p["scale"][0]).astype(dtype) @ weights["attend"]
        heads = qkv.reshape(*x.shape[:2], 3, config.heads, -1)
        q, k, v = (heads[:, :, part] for part in range(3))
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + mixed.reshape(x.shape) @ weights["project"]
        hidden = jax.nn.gelu(norm(x, p["scale"][1]).astype(dtype) @ weights["up"])
        return x + hidden @ weights["down"]

    def loss(params, ids):
        words = params["words"].astype(dtype)
        x = words[ids] + params["positions"].astype(dtype)
        if config.scan:
            body = jax.checkpoint(apply, prevent_cse=False)
            x, _ = jax.lax.scan(lambda x, p: (body(x, p), None), x, params["blocks"])
        else:
            for p in params["blocks"]:
                x = apply(x, p)
        x = norm(x[:, :-1], params["scale"]).astype(dtype)
        logits = jnp.einsum("btd,wd->btw", x, words, preferred_element_type=jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, ids[:, 1:]
        ).mean()

    def batch(key):
        shape = (config.batch, config.tokens)
        return jax.random.randint(key, shape, 0, config.words)

    return Model(init, loss, batch)
