"""A character transformer on English prose.

One pre-norm block (Vaswani et al., 2017; width 24, 2 heads, learnt positions) predicts
each of 24 characters from those before it. Data: the Python reference manual, as the
standard library carries it in `pydoc_data.topics`; letters in lower case, rare
characters as one. The last tenth of the text is held out. Metric: cross-entropy per
character, in nats, on 24 held-out windows. 320 steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _data, _layers, _random

BATCH = 8
LENGTH = 24
WIDTH = 24
HEADS = 2


def init(key: jax.Array) -> dict:
    table_key, layer_key = jax.random.split(key)
    tables = (len(_data.ALPHABET), WIDTH), (LENGTH, WIDTH)
    embedding, position = _random.normal(table_key, *tables)
    layers = (WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH)
    mix, out, up, down = _layers.init_dense(layer_key, *layers)
    return {
        "embedding": 0.2 * embedding,
        "position": 0.2 * position,
        "gains": [jnp.ones(WIDTH)] * 3,
        "mix": mix,
        "out": out,
        "up": up,
        "down": down,
    }


def logits(params: dict, tokens: jax.Array) -> jax.Array:
    """i32[batch, length] -> f32[batch, length, characters]."""
    # A product with one-hots: its gradient is a product too, not a scatter.
    one_hot = jax.nn.one_hot(tokens, len(_data.ALPHABET))
    x = one_hot @ params["embedding"] + params["position"]
    mixed = _layers.dense(params["mix"], _layers.layer_norm(params["gains"][0], x))
    mixed = mixed.reshape(*tokens.shape, 3, HEADS, WIDTH // HEADS)
    query, key, value = jnp.moveaxis(mixed, 2, 0)
    attended = jax.nn.dot_product_attention(query, key, value, is_causal=True)
    x = x + _layers.dense(params["out"], attended.reshape(x.shape))
    hidden = _layers.dense(params["up"], _layers.layer_norm(params["gains"][1], x))
    x = x + _layers.dense(params["down"], jax.nn.relu(hidden))
    return _layers.layer_norm(params["gains"][2], x) @ params["embedding"].T


def loss(params, batch, key):
    del key
    return _layers.cross_entropy(logits(params, batch[:, :-1]), batch[:, 1:]), None


@functools.cache
def windows() -> np.ndarray:
    """i32[24, 25], evenly spaced over the held-out text."""
    text = _data.text().test
    starts = np.linspace(0, len(text) - LENGTH - 1, 24).astype(int)
    return text[starts[:, None] + np.arange(LENGTH + 1)]


def workload() -> Workload:
    return Workload(
        name="char_transformer",
        split="development",
        optimizer="adamw",
        horizon=320,
        batch_size=BATCH,
        init=init,
        batch=lambda key, step: _data.draw_text(key, step, BATCH, LENGTH + 1),
        loss=loss,
        metric=lambda params, step: loss(params, jnp.asarray(windows()), None)[0],
        metric_name="held-out nats per character",
        # The entropy of English as people predict it, 1.3 bits (Shannon, 1951).
        floor=0.9,
    )
