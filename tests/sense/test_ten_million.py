"""Ten million steps of the estimators in float32, beside float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.signal import lfilter

from adaptive_optax import filters
from adaptive_optax.sense import cosines, estimators, series

STEPS, LOOKS = 10_000_000, 10
EVERY = STEPS // LOOKS
SLOW = estimators.slower(series.FAST)


def exponential(decay, x):
    """The debiased exponential mean of all of x, float64."""
    return lfilter([1 - decay], [1, -decay], x) / -np.expm1(
        np.log(decay) * np.arange(1, len(x) + 1)
    )


def polynomial(power, x):
    """The mean of all of x with weights that grow like s^power, float64."""
    s = np.arange(1.0, len(x) + 1)
    weights = np.prod([(s + k) / len(x) for k in range(power)], axis=0)
    return np.cumsum(weights * x) / np.cumsum(weights)


def looks(extend, state, x):
    """The state after each tenth of the stream."""
    scan = jax.jit(lambda s, xs: jax.lax.scan(lambda s, v: (extend(s, v), None), s, xs))
    seen = []
    for part in np.split(x, LOOKS):
        state, _ = scan(state, part)
        seen.append(np.asarray(state))
    return np.stack(seen)


@pytest.mark.slow
def test_exponential_means_are_those_of_float64():
    noise = np.random.default_rng(0).standard_normal(STEPS, np.float32)
    x = 2 + noise / 2
    banks = looks(
        lambda bank, v: series.extend(bank, jnp.stack([v, -v]), jnp.ones(2, bool))[0],
        series.init_bank(),
        x,
    )
    at = np.arange(EVERY - 1, STEPS, EVERY)
    for name, decay in (("fast", series.FAST), ("slow", SLOW)):
        ours = banks[:, series.Bank._fields.index(name)]
        truth = exponential(decay, x.astype(np.float64))[at]
        np.testing.assert_allclose(ours, np.stack([truth, -truth], 1), atol=1e-5)
    assert (banks[:, series.Bank._fields.index("seen"), 0] == at + 1).all()
    # Read in blocks, a polynomial mean differs from the exact one by noise, which is
    # below the standard error of the mean.
    for name, power in (("far", 2), ("near", 8)):
        ours = banks[:, series.Bank._fields.index(name), 0]
        truth = polynomial(power, x.astype(np.float64))[at]
        error = 0.5 * (power + 1) / np.sqrt((2 * power + 1) * (at + 1))
        assert (np.abs(ours - truth) < error).all()


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.5, 0.02, 0.01])
def test_the_long_trend_of_a_loss_that_falls_slowly_is_that_of_float64(noise):
    # One by one, its means had stood still at a million steps: 1.5 times the trend at a
    # noise of a hundredth of the loss, 5 times at three million.
    steps = 3_000_000
    t = np.arange(1.0, steps + 1)
    x = np.random.default_rng(2).standard_normal(steps) * noise + 2 + t**-0.05 / 2
    bank = series.init_bank()

    def step(carry, v):
        came = jnp.ones(2, bool)
        bank, ones = series.extend(carry[0], jnp.stack([v, -v]), came)
        return (bank, ones), None

    carry = bank, jnp.zeros((8, 2))
    scan = jax.jit(lambda carry, xs: jax.lax.scan(step, carry, xs)[0])
    means = [polynomial(power, x) for power in (2, 8)]
    begin = 0
    for end in (100_000, 300_000, 1_000_000, steps):
        carry = scan(carry, x[begin:end].astype(np.float32))
        read = series.read(bank, *carry, jnp.ones(2, bool))
        gap = means[0][end - 1] - means[1][end - 1]
        error = read.noise * np.sqrt((9 / 5 + 81 / 17 - 54 / 11) / end)
        truth = np.asarray([1.0, 1.0]) * gap / error
        np.testing.assert_allclose(read.long_trend, truth, rtol=0.05, atol=1.0)
        begin = end


@pytest.mark.slow
def test_averaged_cosines_are_those_of_float64():
    x = np.random.default_rng(1).uniform(-1, 1, STEPS).astype(np.float32)
    banks = looks(
        lambda bank, v: cosines.extend(bank, jnp.full(3, v), jnp.ones(3, bool)),
        cosines.init_bank(),
        x,
    )
    at = np.arange(EVERY - 1, STEPS, EVERY)
    for row, decay in enumerate((cosines.QUICK, cosines.SLOW)):
        truth = exponential(decay, x.astype(np.float64))[at]
        np.testing.assert_allclose(banks[:, row, 0], truth, atol=1e-5)


def polynomial_means(seen, steps):
    """The two means after each of some steps from ``seen`` on; all values are 1."""
    bank = series.init_bank() + jnp.asarray(
        [[seen if name == "seen" else 0.0] for name in series.Bank._fields]
    )
    bank = bank.at[series.Bank._fields.index("slow")].set(0.5)
    one, came = jnp.ones(2), jnp.ones(2, bool)
    found = []
    for _ in range(steps):
        bank, _ = series.extend(bank, one, came)
        found.append(series.Bank(*bank))
    return found


def test_a_long_run_is_read_in_blocks_of_slow_means():
    before = polynomial_means(series.ALONE - 2, 2)
    assert (before[0].far > 0).all() and (before[1].far > before[0].far).all()
    after = polynomial_means(series.ALONE, 128)
    moved = [i + 1 for i in range(1, 128) if (after[i].far != after[i - 1].far).any()]
    assert moved == [64, 128] and (after[62].far == 0).all()
    slow, weight = after[62].slow, 64 * 3 / (series.ALONE + 64 + 2)
    np.testing.assert_allclose(after[63].far, weight * slow, rtol=1e-6)
    # At 2^24 the count stands still, and with it the means.
    ends = polynomial_means(2.0**24, 3)
    assert (ends[2].seen == 2**24).all() and (ends[2].near == 0).all()


def test_debiasing_weights_do_not_drift():
    decays = (series.FAST, SLOW, series.SPREAD, series.CALM)
    ages = np.float32([1e4, 1e6, 1e7, 2**24])
    ones = estimators.ones(decays, jnp.broadcast_to(ages, (len(decays), len(ages))))
    assert (np.asarray(ones) == 1).all()


def test_debiasing_weights_of_a_filter_end_near_one():
    # An average of ones in float32 stands still where a step is below its rounding.
    tx = filters.adam(0.1)
    state = tx.init(jnp.ones(()))

    @jax.jit
    def run(state):
        step = jax.lax.scan(
            lambda s, _: (tx.update(jnp.ones(()), s, jnp.ones(()))[1], None),
            state,
            length=50_000,
        )
        return step[0]

    once = run(state)
    twice = run(once)
    for name in ("first_weight", "second_weight"):
        weight = optax.tree.get(once, name)
        np.testing.assert_allclose(weight, 1, atol=1e-4)
        assert optax.tree.get(twice, name) == weight
