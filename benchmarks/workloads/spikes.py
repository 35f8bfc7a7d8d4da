"""The digits, with bad batches at fixed steps: inflated, mislabelled, or not a number.

A 64-32-10 MLP in a data pipeline that fails now and then: some batches arrive in the
wrong unit (pixels times 10) with labels one class too high, which gives huge finite
gradients; in others one pixel is NaN, which makes the loss and every gradient NaN. A
step that is applied regardless then ends the run, so the workload asks of every method
that it be wrapped in `optax.apply_if_finite` unless it guards itself. Such spikes are
what Chowdhery et al., 2022, "PaLM", section 5.1, skip batches for. Metric:
cross-entropy on 500 held-out digits. 800 steps.
"""

import jax
import jax.numpy as jnp

from benchmarks.contract import Workload
from benchmarks.workloads import _data, _layers

BATCH = 32
HORIZON = 800
INFLATED = (240, 241, 242, 400, 560)
NOT_A_NUMBER = (320, 480, 481)
FACTOR = 10.0


def init(key: jax.Array) -> list[_layers.Dense]:
    return _layers.init_mlp(key, (64, 32, 10), gain=2**0.5)


def spoil(x, labels, step):
    """What arrives at ``step`` in place of a clean batch."""
    inflated = jnp.any(step == jnp.asarray(INFLATED))
    missing = jnp.any(step == jnp.asarray(NOT_A_NUMBER))
    x = x * jnp.where(inflated, FACTOR, 1.0)
    labels = jnp.where(inflated, (labels + 1) % 10, labels)
    return x.at[0, 0].set(jnp.where(missing, jnp.nan, x[0, 0])), labels


def loss(params, batch, key):
    x, labels = batch
    x = x + 0.2 * jax.random.normal(key, x.shape)
    return _layers.cross_entropy(_layers.mlp(params, x), labels), None


def workload() -> Workload:
    data = _data.digits()

    def batch(key, step):
        return spoil(*_data.draw(key, step, BATCH, data.x, data.labels), step)

    def metric(params, step):
        del step
        return _layers.cross_entropy(_layers.mlp(params, data.test_x), data.test_labels)

    return Workload(
        name="spikes",
        split="development",
        optimizer="adam",
        horizon=HORIZON,
        batch_size=BATCH,
        init=init,
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="held-out cross-entropy",
        # About what the standard error over 500 digits amounts to.
        floor=0.02,
        disturbed_at=min(INFLATED + NOT_A_NUMBER),
    )
