"""An MLP on the 8x8 digits: the workload that everybody starts with.

64-32-32-10 with ReLU; the pixels are given noise of standard deviation 0.2 at every
draw, which keeps 1297 examples from being learnt by heart. Data: scikit-learn's copy of
the UCI digits. Metric: cross-entropy on 500 held-out digits. 800 steps.
"""

import jax

from benchmarks.contract import Workload
from benchmarks.workloads import _data, _layers

BATCH = 32


def init(key: jax.Array) -> list[_layers.Dense]:
    return _layers.init_mlp(key, (64, 32, 32, 10), gain=2**0.5)


def loss(params, batch, key):
    x, labels = batch
    x = x + 0.2 * jax.random.normal(key, x.shape)
    return _layers.cross_entropy(_layers.mlp(params, x), labels), None


def workload() -> Workload:
    data = _data.digits()

    def metric(params, step):
        del step
        return _layers.cross_entropy(_layers.mlp(params, data.test_x), data.test_labels)

    return Workload(
        name="digits_mlp",
        split="development",
        optimizer="adam",
        horizon=800,
        batch_size=BATCH,
        init=init,
        batch=lambda key, step: _data.draw(key, step, BATCH, data.x, data.labels),
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # About what the standard error over 500 digits amounts to.
        floor=0.02,
    )
