"""A GPT whose embeddings, blocks and head can each be frozen.

It has the sizes of `benchmarks.models.gpt` and differs from it where a saving would:

- The head is a matrix of its own. Tied to the embeddings, it would keep them live, and
  with them the backward pass through every block.
- Blocks are rematerialised without a scan, too.
- Activations have rank 2: in rank 3 XLA's backward pass of ``x @ w`` is 1.5 times
  slower on the CPU, which a saving must not be measured against.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import models
from benchmarks.models import GPTConfig

KINDS: dict[str, dict[str, bool]] = {
    "unrolled": {},
    "unrolled + remat": {"remat": True},
    "scan + remat": {"scan": True},
}
"""Options of `gpt`, by name."""


def gpt(config: GPTConfig, *, scan: bool = False, remat: bool = False) -> models.Model:
    """The model; its batch is i32[batch, tokens] and it predicts the next token."""
    config = config._replace(scan=scan)
    return models.Model(
        init=functools.partial(init, config=config),
        loss=functools.partial(loss, config=config, remat=remat),
        batch=models.gpt(config).batch,
    )


def init(key: jax.Array, *, config: GPTConfig) -> dict[str, Any]:
    """Weights of each block by itself or, for a scan, stacked."""
    n, width, keys = config.blocks, config.width, iter(jax.random.split(key, 7))

    def matrix(*shape: int) -> jax.Array:
        return 0.02 * jax.random.normal(next(keys), shape)

    blocks = {
        "attend": matrix(n, width, 3 * width),
        "project": matrix(n, width, width),
        "up": matrix(n, width, 4 * width),
        "down": matrix(n, 4 * width, width),
        "scale": jnp.ones((n, 2, width)),
    }
    layers = [jax.tree.map(lambda x, i=i: x[i], blocks) for i in range(n)]
    return {
        "embed": {
            "words": matrix(config.words, width),
            "positions": matrix(config.tokens, width),
        },
        "head": {"scale": jnp.ones(width), "out": matrix(width, config.words)},
        "blocks": blocks if config.scan else layers,
    }


def block(p: dict[str, jax.Array], x: jax.Array, config: GPTConfig) -> jax.Array:
    """Attention and a hidden layer, both added to ``x``."""
    rows = x.reshape(-1, config.width)
    qkv = models.norm(rows, p["scale"][0]) @ p["attend"]
    qkv = qkv.reshape(config.batch, config.tokens, 3, config.heads, -1)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) / (config.width // config.heads) ** 0.5
    causal = jnp.tril(jnp.ones((config.tokens, config.tokens), bool))
    mixed = jax.nn.softmax(jnp.where(causal, scores, -1e9)) @ v
    rows = rows + mixed.transpose(0, 2, 1, 3).reshape(rows.shape) @ p["project"]
    hidden = jax.nn.gelu(models.norm(rows, p["scale"][1]) @ p["up"])
    return (rows + hidden @ p["down"]).reshape(x.shape)


def logits(
    params: Any, ids: jax.Array, *, config: GPTConfig, remat: bool = False
) -> jax.Array:
    """Of the next word after each but the last, one row each."""
    apply = functools.partial(block, config=config)
    apply = jax.checkpoint(apply) if remat or config.scan else apply
    x = params["embed"]["words"][ids] + params["embed"]["positions"]
    if config.scan:
        x, _ = jax.lax.scan(lambda x, p: (apply(p, x), None), x, params["blocks"])
    else:
        for p in params["blocks"]:
            x = apply(p, x)
    rows = models.norm(x[:, :-1], params["head"]["scale"]).reshape(-1, config.width)
    return rows @ params["head"]["out"]


def loss(params: Any, ids: jax.Array, **options: Any) -> jax.Array:
    """Mean cross-entropy of the next word; the options are those of `logits`."""
    labels = ids[:, 1:].reshape(-1)
    return optax.softmax_cross_entropy_with_integer_labels(
        logits(params, ids, **options), labels
    ).mean()
