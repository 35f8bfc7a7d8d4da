"""The sensor against a slow twin, and its invariances."""

import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax._types import Cosine, Series
from adaptive_optax.sense import sensor as sensing
from tests.rules.signal_streams import FIELDS
from tests.sense.driving import PARAMS, noisy_fall, quiet, read, reading, stream, twin

# What no rule reads: the quick mean of the heading, and of the steps all but that.
UNREAD = {f"heading.{name}" for name in ("arrived", "value", "mean", "sem", "count")}
UNREAD |= {f"step_correlation.{name}" for name in Cosine._fields if name != "mean"}
MEASURED = {name.replace("__", ".") for name in FIELDS if "standing" not in name}
MEASURED |= {f"objective.{name}" for name in Series._fields}
COMPARED = sorted(MEASURED - UNREAD)


@pytest.mark.parametrize("seed, decay", [(0, 0.9), (1, 0.9), (2, 0.6), (3, 0.95)])
def test_the_sensor_agrees_with_its_twin(seed, decay):
    fed = stream(seed)
    signals, state = read(*fed, decay=decay)
    expected = twin(*fed, decay=decay)
    for name in COMPARED:
        # A trend is a small difference of levels, which float32 holds to 1e-7 of 2.
        # The nearer a decay is to 1, the smaller is the difference's variance at first.
        trend = name.endswith("trend")
        np.testing.assert_allclose(
            reading(signals, name),
            [row[name] for row in expected],
            rtol=2e-3 if trend and decay > 0.9 else 2e-5,
            atol=2e-4 if trend else 2e-5,
            err_msg=name,
        )
    judged = np.asarray(signals.objective.value)
    begun = int(np.argmax(signals.reward.arrived))
    assert begun > 5
    np.testing.assert_array_equal(judged[:begun], signals.loss.value[:begun])
    np.testing.assert_array_equal(judged[begun:], -signals.reward.value[begun:])
    bad = [~np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in fed[:3]]
    assert list(state.nonfinite) == [b.sum() for b in bad]
    assert min(state.nonfinite) > 0


SCALE_FREE = ("loss.trend", "loss.long_trend", "loss.variance_ratio", "loss.success")


@pytest.mark.parametrize("scale", [1e-12, 2.0**-10, 1.0, 3.0, 1e12, 1e30])
def test_the_scale_of_the_loss_does_not_matter(scale):
    # A mean square would under- or overflow at either end.
    losses = noisy_fall()
    plain, _ = read(*quiet(losses, rewards=losses))
    scaled, _ = read(*quiet(losses * scale, rewards=losses * scale))
    for name in (*SCALE_FREE, "reward.trend"):
        np.testing.assert_allclose(
            reading(scaled, name), reading(plain, name), rtol=2e-4, atol=2e-4
        )


@pytest.mark.parametrize("scale, offset", [(1.0, 10.0), (1.0, -10.0), (50.0, -700.0)])
def test_the_offset_and_the_sign_of_the_loss_do_not_matter(scale, offset):
    # ELBOs and negative rewards: optax reduce_on_plateau read rtol against |best|.
    losses = noisy_fall()
    plain, _ = read(*quiet(losses))
    moved, _ = read(*quiet(losses * scale + offset))
    for name in SCALE_FREE:  # as far as float32 can tell 10.0 from 10.1
        np.testing.assert_allclose(
            reading(moved, name), reading(plain, name), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
def test_the_scale_of_the_gradient_does_not_matter(scale):
    fed = stream(4)
    fed[2] = np.nan_to_num(fed[2], posinf=1.0)
    plain, _ = read(*fed)
    scaled, _ = read(*fed[:2], np.float32(fed[2] * scale), *fed[3:])
    for name in ("alignment", "alignment.mean", "alignment.sem", "grad_norm_z"):
        np.testing.assert_allclose(
            reading(scaled, name), reading(plain, name), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_array_equal(scaled.alignment.arrived, plain.alignment.arrived)


@pytest.mark.parametrize("up", [True, False])
def test_signs_mean_better_when_positive(up):
    line = np.arange(200.0) * (1 if up else -1)
    line = line + np.random.default_rng(0).normal(size=200)
    signals, _ = read(*quiet(line, rewards=line))
    assert (signals.loss.trend[-1] < -2) == up
    assert (signals.reward.trend[-1] > 2) == up
    opposed, _ = read(*quiet(line, steps=np.full((200, 17), 1.0)))
    agreed, _ = read(*quiet(line))
    assert opposed.alignment.value[-1] == pytest.approx(-1.0, abs=1e-5)
    assert agreed.alignment.value[-1] == pytest.approx(1.0, abs=1e-5)


def test_the_count_stays_at_its_largest():
    # It wrapped to -2147483648, which a horizon takes for a start.
    state = sensing.init_sensor(PARAMS, 1.0)
    state = state._replace(signal_count=jnp.int32(2**31 - 1))
    norms = sensing.gradient_norms(PARAMS)
    _, _, after = sensing.measure(state, PARAMS, norms, fraction=1.0)
    assert int(after.signal_count) == 2**31 - 1
