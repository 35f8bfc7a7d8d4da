"""Trend, progress and noise of a loss or a reward: their distribution, and outliers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax._types import Series
from tests.sense.driving import quiet, read


def test_long_means_see_no_trend_in_noise():
    # At first fast and slow hardly differ, and float32 cannot tell by how much.
    losses = 2 + np.random.default_rng(0).normal(size=300)
    signals, _ = read(*quiet(losses), decay=0.9999)
    assert np.abs(signals.loss.trend).max() < 4


def test_the_trend_of_a_flat_noisy_loss_is_standard_normal():
    # From the second value on: a debiased EMA's own error shrinks with age.
    rng = np.random.default_rng(5)
    losses = jnp.asarray(rng.normal(size=(400, 60)), jnp.float32)
    fed = quiet(np.zeros(60))
    run = jax.vmap(lambda x: read(x, *fed[1:])[0].loss.trend)
    z = np.asarray(run(losses))
    assert np.abs(z[:, 5:].mean(axis=0)).max() < 0.3
    late = z[:, 20:].std(axis=0)
    assert 0.8 < late.min() and late.max() < 1.3


def progress_of(losses):
    """The progress along each of many runs, whose losses are the rows."""
    fed = quiet(np.zeros(losses.shape[1]))
    run = jax.vmap(lambda x: read(x, *fed[1:])[0].loss.long_trend)
    return np.asarray(run(jnp.asarray(losses, jnp.float32)))


@pytest.mark.parametrize("scale, offset", [(1.0, 0.0), (40.0, -300.0)])
def test_the_progress_of_a_flat_noisy_loss_is_standard_normal(scale, offset):
    # At every age at which a rule asks for it, the first being 31: there its standard
    # error, that of n -> infinity, is a seventh too wide.
    rng = np.random.default_rng(8)
    z = progress_of(offset + scale * rng.normal(size=(400, 600)))
    for age in (31, 60, 120, 300, 600):
        now = z[:, age - 1]
        assert abs(now.mean()) < 0.15
        assert (0.8 if age == 31 else 0.88) < now.std() < 1.12
        assert 0.9 < (np.abs(now) < 1.96).mean() < 0.99


def test_the_progress_of_a_slow_fall_is_positive_at_its_own_age():
    # A fall of one noise in a hundred steps: no fixed horizon sees it at once.
    rng = np.random.default_rng(9)
    noise = rng.normal(size=(400, 600))
    falling = progress_of(noise - 0.01 * np.arange(600))
    rising = progress_of(noise + 0.01 * np.arange(600))
    assert (falling[:, 300:] > 2).mean() > 0.9 and falling[:, 599].min() > 4
    assert (rising[:, 300:] < -2).mean() > 0.9


def test_the_progress_is_of_the_steps_since_a_restore():
    # What was lost is no level that the run still falls from.
    losses = np.r_[100.0 - np.arange(50.0), np.zeros(50)]
    losses = losses + np.random.default_rng(3).normal(size=100)
    fed = list(quiet(losses))
    fed[4] = np.arange(100) == 49
    signals, _ = read(*fed)
    kept, _ = read(*quiet(losses))
    assert signals.loss.count[49] == 50 and signals.loss.count[99] == 50
    assert signals.loss.long_trend[49] > 3 and kept.loss.long_trend[99] > 10
    assert abs(signals.loss.long_trend[99]) < 3


def test_a_rising_reward_reads_as_a_falling_loss():
    line = np.arange(200.0) + np.random.default_rng(0).normal(size=200)
    rising, _ = read(*quiet(np.zeros(200), rewards=line))
    falling, _ = read(*quiet(-line))
    for name in Series._fields:
        np.testing.assert_allclose(
            getattr(rising.objective, name),
            getattr(falling.loss, name),
            rtol=1e-6,
            err_msg=name,
        )
    assert rising.objective.long_trend[-1] > 5
    np.testing.assert_array_equal(rising.reward.value, np.float32(line))


def test_a_spike_then_a_slow_fall_reads_as_a_fall():
    # Against best-ever it would read as no progress for as long as it is above it.
    losses = np.r_[np.zeros(50), 10.0 - 0.05 * np.arange(150)]
    losses = losses + 0.01 * np.random.default_rng(1).normal(size=200)
    signals, _ = read(*quiet(losses))
    assert (np.asarray(signals.loss.trend[60:70]) < 0).all()
    assert (np.asarray(signals.loss.trend[150:]) > 2).all()


def test_one_outlier_does_not_unlearn_the_noise():
    losses = 0.1 * np.random.default_rng(2).normal(size=200)
    losses[60] = 100.0
    signals, _ = read(*quiet(losses))
    assert signals.loss.noise[59] == pytest.approx(0.1, rel=0.5)
    assert signals.loss.noise[60] < 0.1 * 100.0
    assert signals.loss.noise[119] < 1.0
