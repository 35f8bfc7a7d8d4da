"""An MLP-Mixer on the 8x8 digits: deep, and nearly all of it matrices.

Sixteen 2x2 patches of width 16 go through two blocks of token mixing and channel
mixing, pre-norm with residuals (Tolstikhin et al., 2021, "MLP-Mixer"). Data:
scikit-learn's digits, with pixel noise of standard deviation 0.2. Metric: cross-entropy
on 128 held-out digits. 240 steps.
"""

import jax
import jax.numpy as jnp

from benchmarks.contract import Workload
from benchmarks.workloads import _data, _layers

BATCH, TEST = 16, 128
TOKENS, PIXELS, WIDTH, BLOCKS = 16, 4, 16, 2


def init(key: jax.Array) -> dict:
    block = (TOKENS, TOKENS), (TOKENS, TOKENS), (WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH)
    ends = (PIXELS, WIDTH), (WIDTH, 10)
    embed, head, *layers = _layers.init_dense(key, *ends, *BLOCKS * block)
    blocks = [
        {
            "gains": [jnp.ones(WIDTH), jnp.ones(WIDTH)],
            "tokens": layers[start : start + 2],
            "channels": layers[start + 2 : start + 4],
        }
        for start in range(0, len(layers), 4)
    ]
    return {"embed": embed, "blocks": blocks, "gain": jnp.ones(WIDTH), "head": head}


def logits(params: dict, x: jax.Array) -> jax.Array:
    x = x.reshape(-1, 4, 2, 4, 2).swapaxes(2, 3).reshape(-1, TOKENS, PIXELS)
    x = _layers.dense(params["embed"], x)
    for block in params["blocks"]:
        turned = _layers.layer_norm(block["gains"][0], x).swapaxes(1, 2)
        x = x + _layers.mlp(block["tokens"], turned).swapaxes(1, 2)
        x = x + _layers.mlp(block["channels"], _layers.layer_norm(block["gains"][1], x))
    pooled = jnp.mean(_layers.layer_norm(params["gain"], x), axis=1)
    return _layers.dense(params["head"], pooled)


def loss(params, batch, key):
    x, labels = batch
    x = x + 0.2 * jax.random.normal(key, x.shape)
    return _layers.cross_entropy(logits(params, x), labels), None


def workload() -> Workload:
    data = _data.digits()

    def metric(params, step):
        del step
        predicted = logits(params, data.test_x[:TEST])
        return _layers.cross_entropy(predicted, data.test_labels[:TEST])

    return Workload(
        name="mixer",
        split="held_out",
        optimizer="muon",
        horizon=240,
        batch_size=BATCH,
        init=init,
        batch=lambda key, step: _data.draw(key, step, BATCH, data.x, data.labels),
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # About what the standard error over 128 digits amounts to.
        floor=0.04,
    )
