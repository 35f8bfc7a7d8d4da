"""Feedback of other types, beyond float32, or far outside."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax._types import Limits
from adaptive_optax.sense import sensor as sensing
from tests.sense.driving import PARAMS, noisy_fall, quiet, read


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e37, -3e38])
def test_a_value_beyond_float32_differences_counts_as_not_finite(bad):
    losses = noisy_fall(20)
    _, before = read(*quiet(losses))
    _, after = read(*quiet(np.r_[losses, bad]))
    np.testing.assert_array_equal(after.series[:, 0], before.series[:, 0])
    assert int(after.nonfinite[0]) == 1


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    "value", [1, 2.5, True, np.float64(2), np.int8(3), jnp.bfloat16(1.5)]
)
def test_feedback_of_any_real_kind_becomes_float32(value, x64):
    with jax.enable_x64(x64):
        state = sensing.init_sensor(PARAMS, 1.0)
        norms = sensing.gradient_norms(PARAMS)
        signals, _, after = sensing.measure(
            state, PARAMS, norms, value=value, reward=value, fraction=1.0
        )
        assert signals.loss.value.dtype == signals.reward.value.dtype == jnp.float32
        assert float(signals.loss.value) == float(value)
        assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)


def test_a_float64_loss_beyond_float32_is_not_finite():
    with jax.enable_x64(True):
        state = sensing.init_sensor(PARAMS, 1.0)
        norms = sensing.gradient_norms(PARAMS)
        signals, _, after = sensing.measure(
            state, PARAMS, norms, value=jnp.float64(1e200), fraction=1.0
        )
        assert not signals.loss.arrived and int(after.nonfinite[0]) == 1


FAR = {
    "a loss above the limit": (Limits(loss=2.0), 3.0, 1.0, True),
    "a loss at the limit": (Limits(loss=3.0), 3.0, 1.0, False),
    "no room for another": (Limits(loss=2.0, room=jnp.asarray(False)), 3.0, 1.0, False),
    "a loss that did not come": (Limits(loss=2.0), np.nan, 1.0, False),
    "an infinite loss": (Limits(loss=2.0), np.inf, 1.0, False),
    "a gradient that is not finite": (Limits(loss=2.0), 3.0, np.nan, False),
    "a dead gradient": (Limits(dead_norm=9.0, dead_loss=2.0), 3.0, 1.0, True),
    "a small one with a good loss": (Limits(dead_norm=9.0, dead_loss=3.0), 3.0, 1.0, 0),
}


@pytest.mark.parametrize("rewarded", [False, True])
@pytest.mark.parametrize("limits, objective, scale, far", FAR.values(), ids=FAR)
def test_nothing_is_read_from_a_batch_far_outside(
    limits, objective, scale, far, rewarded
):
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    grads = jax.tree.map(lambda x: scale * x, ones)
    norms = sensing.gradient_norms(grads)
    # The reward is judged once there was one, whatever the loss.
    fed = {"value": 100.0, "reward": -objective} if rewarded else {"value": objective}
    _, _, before = sensing.measure(
        sensing.init_sensor(PARAMS, 1.0),
        ones,
        sensing.gradient_norms(ones),
        fraction=1.0,
        **dict.fromkeys(fed, 0.0),
    )
    signals, batch, after = sensing.measure(
        before, grads, norms, limits=limits, fraction=1.0, **fed
    )
    assert bool(batch.far) == far
    came, finite = np.isfinite(objective), np.isfinite(scale)
    assert bool(batch.told) == came
    assert float(batch.objective) == (objective if came else 0.0)
    assert bool(signals.objective.arrived) == (came and not far)
    assert bool(signals.has_gradient) == (finite and not far)
    # It is no fault of the number's.
    assert list(after.nonfinite) == [
        not came and not rewarded,
        not came and rewarded,
        not finite,
    ]
    if far:
        chex.assert_trees_all_equal(after.series, before.series)
        chex.assert_trees_all_equal(after.gradient, before.gradient)
        assert int(after.signal_count) == 2
