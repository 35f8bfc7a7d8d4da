"""Divergence after the audit, and whose fault it was."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.supervise.driving import calm, feed, updater


@pytest.mark.parametrize("bad, cut", [(1e4, 0.25), (np.nan, 0.25**2)])
def test_three_strikes_bring_the_last_good_state_back(bad, cut):
    params, state = feed(calm(80))
    kept, inner = params, state.inner_state
    params, state = feed([*calm(5), bad, bad], params, state)
    assert int(state.recovery.judges.restores) == 0
    chex.assert_trees_all_equal(state.recovery.copy.good_params, kept)
    params, state = feed([bad], params, state)
    assert int(state.recovery.judges.restores) == 1
    assert float(state.lr_scale) == pytest.approx(cut, rel=1e-5)
    params, state = feed([2.0], params, state)
    chex.assert_trees_all_equal(params, kept)
    # The momentum of the divergence is gone as well.
    params, state = feed([2.0], params, state)
    trace = jax.tree.map(lambda m: 0.9 * m + 1.0, optax.tree.get(inner, "trace"))
    chex.assert_trees_all_close(optax.tree.get(state, "trace"), trace, rtol=1e-6)
    expected = jax.tree.map(lambda p, m: p - 0.01 * cut * m, kept, trace)
    chex.assert_trees_all_close(params, expected, rtol=1e-5)


def test_a_change_of_the_data_is_acquitted():
    # The good parameters' loss is as high: it was not the rate, which comes back.
    params, state = feed([*calm(80), 50.0, 50.0, 50.0])
    assert float(state.lr_scale) == pytest.approx(0.25, rel=1e-5)
    assert bool(state.recovery.judges.guard.checking_restore)
    assert float(state.recovery.judges.diverged_log_scale) == pytest.approx(-0.7)
    params, state = feed([50.0], params, state)
    chex.assert_trees_all_equal(params, state.recovery.copy.good_params)
    assert float(state.lr_scale) == pytest.approx(1.0, rel=1e-5)
    assert not bool(state.recovery.judges.guard.checking_restore)
    assert float(state.recovery.judges.trusted_log_scale) == 0.0
    assert np.isinf(state.recovery.judges.diverged_log_scale)
    # The new level is taken as it comes, and guarded like the old one.
    params, state = feed(calm(60, 50.0), params, state)
    assert int(state.recovery.judges.restores) == 1
    assert float(state.recovery.judges.levels.good_value) == pytest.approx(
        50.0, rel=0.01
    )
    _, state = feed([1e5] * 3, params, state)
    assert int(state.recovery.judges.restores) == 2


def test_the_noise_of_before_a_restore_is_that_of_the_level_after_it():
    # The first loss has none, and without any the guard would see nothing but rises.
    params, state = feed(calm(80))
    noise = float(state.recovery.judges.levels.good_noise)
    _, state = feed([50.0, 50.0, 50.0, 2.0, 2.0], params, state)
    assert float(state.recovery.judges.levels.good_value) == pytest.approx(2.0)
    assert float(state.recovery.judges.levels.good_noise) == noise > 0


@pytest.mark.parametrize("after", [2.0, 5.0, np.nan, None])
def test_a_true_divergence_is_not_acquitted(after):
    # The good parameters' loss is as low as it was, or it says nothing.
    params, state = feed([*calm(80), 50.0, 50.0, 50.0, after])
    params, state = feed([*calm(65)], params, state)
    assert int(state.recovery.judges.restores) == 1
    assert float(state.lr_scale) == pytest.approx(0.25, rel=1e-5)
    cut = float(state.recovery.judges.trusted_log_scale)
    assert cut == pytest.approx(np.log(0.25), rel=1e-5)
    assert float(state.recovery.judges.diverged_log_scale) == pytest.approx(-0.7)


def test_an_acquittal_returns_to_what_was_trusted_if_that_is_higher():
    # A rate that the law had lowered has to learn the new data.
    def update(signals, state):
        return jnp.where(signals.standing.restored, 0.0, jnp.float32(-0.02)), state

    tx = ao.adaptive_scheduler(
        optax.sgd, 0.01, rule=ao.Rule(lambda: (), update), average=False
    )
    step = updater(tx)
    params, state = feed([*calm(80), 50.0, 50.0, 50.0], step=step, tx=tx)
    assert float(state.lr_scale) < 0.25 * np.exp(-0.02 * 60)
    _, state = feed([50.0], params, state, step=step, tx=tx)
    assert float(state.lr_scale) == pytest.approx(1.0, rel=1e-5)
