"""The digits with a fifth of the training labels wrong, in large batches.

The symmetric noise of Zhang et al., 2017, "Understanding deep learning requires
rethinking generalization": one label in five is replaced, once and for all, by a random
other one. With batches of 256 of the 1297 examples the gradient is nearly exact. A
64-32-10 MLP is too small, and its pixels too noisy (standard deviation 0.3), to learn
the wrong labels by heart within the run. Metric: cross-entropy on 500 held-out digits
with their true labels. 400 steps.
"""

import jax
import numpy as np

from benchmarks.contract import Workload
from benchmarks.workloads import _data, _layers

BATCH = 256
SHARE = 0.2


def corrupted(labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    wrong = rng.permutation(len(labels)) < SHARE * len(labels)
    return np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels)


def init(key: jax.Array) -> list[_layers.Dense]:
    return _layers.init_mlp(key, (64, 32, 10), gain=2**0.5)


def loss(params, batch, key):
    x, labels = batch
    x = x + 0.3 * jax.random.normal(key, x.shape)
    return _layers.cross_entropy(_layers.mlp(params, x), labels), None


def workload() -> Workload:
    data = _data.digits()
    labels = corrupted(data.labels).astype(np.int32)

    def metric(params, step):
        del step
        return _layers.cross_entropy(_layers.mlp(params, data.test_x), data.test_labels)

    return Workload(
        name="label_noise",
        split="held_out",
        optimizer="lion",
        horizon=400,
        batch_size=BATCH,
        init=init,
        batch=lambda key, step: _data.draw(key, step, BATCH, data.x, labels),
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # A model that predicts the noise as it is pays -log(1 - SHARE) on true labels.
        floor=-float(np.log1p(-SHARE)),
    )
