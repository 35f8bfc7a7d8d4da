"""Divergence after the audit, and whose fault it was."""

import chex
import jax
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.law import Law
from tests.helpers import always
from tests.supervise.driving import PARAMS, TX, calm, feed, restores, updater

NAN = np.nan  # a batch whose gradient is NaN
OFFENCE = [*[NAN] * 5, 2.0]  # five bad batches, and a check that is sound


def trial(state):
    return state.recovery.judges.trial


@pytest.mark.parametrize("bad", [1e4, NAN])
def test_five_bad_batches_bring_the_last_good_state_back(bad):
    params, state = feed(calm(80))
    kept, inner = params, state.inner_state
    params, state = feed(calm(5), params, state)
    before = params, state.inner_state
    params, state = feed([bad] * 4, params, state)
    assert restores(state) == 0
    # What was skipped has moved neither the parameters nor the momentum.
    chex.assert_trees_all_equal((params, state.inner_state), before)
    chex.assert_trees_all_equal(state.recovery.copy.good_params, kept)
    params, state = feed([bad], params, state)
    assert restores(state) == 1
    params, state = feed([2.0], params, state)
    chex.assert_trees_all_equal(params, kept)
    # The first offence costs nothing else.
    assert float(state.lr_scale) == 1.0 and int(trial(state).offences) == 1
    # The momentum since then is gone as well.
    params, state = feed([2.0], params, state)
    trace = jax.tree.map(lambda m: 0.9 * m + 1.0, optax.tree.get(inner, "trace"))
    chex.assert_trees_all_close(optax.tree.get(state, "trace"), trace, rtol=1e-6)
    expected = jax.tree.map(lambda p, m: p - 0.01 * m, kept, trace)
    chex.assert_trees_all_close(params, expected, rtol=1e-5)


def test_every_other_loss_makes_up_for_all_bad_batches_before_it():
    values = calm(180)
    values[80::5] = values[81::5] = values[82::5] = values[83::5] = NAN
    _, state = feed(values)
    assert restores(state) == 0 and float(state.lr_scale) == 1.0


def test_offences_in_a_row_are_cut_ever_deeper_and_then_all_cuts_are_taken_back():
    # A batch has to be learnt from in between; the one after a check repays nothing.
    params, state = feed(calm(80))
    scales = []
    for _ in range(6):
        params, state = feed([*OFFENCE, 2.0], params, state)
        scales.append(float(state.lr_scale))
    cuts = 0.2 ** np.array([0, 1, 3, 7, 0, 0])
    np.testing.assert_allclose(scales, cuts, rtol=1e-4)
    assert restores(state) == 6 and float(trial(state).owed) < 1e-5


@pytest.mark.parametrize(
    "age, gap, scale",
    [(80, 29, 0.2), (80, 33, 1.0), (400, 76, 0.2), (400, 86, 1.0)],
)
def test_an_offence_long_after_another_is_a_first_one(age, gap, scale):
    # The window is 31 losses, or a fifth of the run's age.
    _, state = feed([*calm(age), *OFFENCE, *calm(gap), *OFFENCE])
    assert restores(state) == 2
    assert float(state.lr_scale) == pytest.approx(scale, rel=1e-5)


def test_a_cut_is_repaid_with_the_fourth_power_of_the_age():
    params, state = feed([*calm(80), *OFFENCE, 2.0, *OFFENCE, 2.0])
    start = int(state.sensor.signal_count)
    steps = int(np.ceil((start + 20) * (5**0.25 - 1)))
    assert float(trial(state).owed) == pytest.approx(np.log(5), rel=1e-5)
    for t in range(steps):
        expected = 0.2 * ((start + t + 20) / (start + 20)) ** 4
        assert float(state.lr_scale) == pytest.approx(min(expected, 1.0), rel=0.02)
        params, state = feed([2.0], params, state)
    params, state = feed([2.0], params, state)
    assert float(trial(state).owed) == 0.0
    assert float(state.lr_scale) == pytest.approx(1.0, rel=1e-4)


def test_no_more_is_repaid_than_the_bounds_let_be_cut():
    # The safe mode never raises the rate above the base rate.
    tx = ao.adaptive_scheduler(
        optax.sgd, 0.01, average=False, mode="safe", lr_bounds=(0.005, 1.0)
    )
    step = updater(tx)
    params, state = feed([*calm(80), *OFFENCE, 2.0, *OFFENCE], step=step, tx=tx)
    assert float(state.lr_scale) == pytest.approx(0.5)
    _, state = feed([2.0] * 80, params, state, step, tx)
    assert float(trial(state).owed) == 0.0
    assert float(state.lr_scale) == pytest.approx(1.0, rel=1e-3)


def test_only_sound_steps_repay():
    _, state = feed([*calm(80), *OFFENCE, 2.0, *OFFENCE, 2.0])
    owed = float(trial(state).owed)
    for values in ([NAN] * 3, [1e4] * 3, [None] * 3):
        _, after = feed(values, PARAMS, state)
        assert float(trial(after).owed) == owed > 0


def test_the_rate_does_not_rise_while_an_offence_is_watched():
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, rule=always(0.02), average=False)
    step = updater(tx)
    params, state = feed([*calm(80), *OFFENCE], step=step, tx=tx)
    scale = float(state.lr_scale)
    assert scale > np.exp(0.02 * 70)
    params, state = feed(calm(30), params, state, step, tx)
    assert float(state.lr_scale) == scale
    params, state = feed(calm(5), params, state, step, tx)
    assert float(state.lr_scale) > scale * np.exp(0.02)


def test_the_rate_may_fall_while_an_offence_is_watched():
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, rule=always(-0.02), average=False)
    step = updater(tx)
    params, state = feed([*calm(80), *OFFENCE], step=step, tx=tx)
    scale = float(state.lr_scale)
    _, state = feed(calm(10), params, state, step, tx)
    assert float(state.lr_scale) < scale * np.exp(-0.15)


@pytest.mark.parametrize("bad, times", [(NAN, 200), (1e4, 12)])
def test_nothing_is_restored_twice_without_a_step_in_between(bad, times):
    params, state = feed([*calm(80), *[bad] * times])
    assert restores(state) == 1
    chex.assert_trees_all_equal(params, state.recovery.copy.good_params)
    # Data that stay bad are no fault of the rate.
    assert float(state.lr_scale) == 1.0 and int(trial(state).offences) == 0


def test_a_check_that_is_bad_as_well_is_an_acquittal():
    params, state = feed([*calm(80), *OFFENCE, 2.0, *[NAN] * 6])
    assert restores(state) == 2
    chex.assert_trees_all_equal(params, state.recovery.copy.good_params)
    assert float(state.lr_scale) == 1.0 and int(trial(state).offences) == 1


def test_a_check_without_feedback_convicts_nobody():
    params, state = feed([*calm(80), *OFFENCE, 2.0, *[NAN] * 5, None])
    chex.assert_trees_all_equal(params, state.recovery.copy.good_params)
    _, state = feed(calm(20), params, state)
    assert restores(state) == 2
    assert float(state.lr_scale) == 1.0 and int(trial(state).offences) == 1


def test_a_check_whose_loss_is_not_finite_convicts_nobody():
    # Its gradient is finite: it is no reading, as if no loss had come.
    step = updater(TX)
    params, state = feed([*calm(80), *OFFENCE, 2.0, *[NAN] * 5])
    params, state = step(params, state, NAN, size=1.0)
    _, state = feed(calm(20), params, state)
    assert float(state.lr_scale) == 1.0 and int(trial(state).offences) == 1


def test_a_gradient_that_is_not_finite_is_no_step_where_no_loss_comes_either():
    # Otherwise the next five bad batches would restore what has just been restored.
    step = updater(TX)
    params, state = feed([*calm(80), *[NAN] * 5, None])
    params, state = step(params, state, None, size=NAN)
    assert not bool(trial(state).moved)
    _, state = feed([NAN] * 8, params, state)
    assert restores(state) == 1


def test_without_a_trial_bad_batches_are_skipped_and_that_is_all():
    law = Law(trial=None)
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, law=law, average=False)
    step = updater(tx)
    params, state = feed(calm(80), step=step, tx=tx)
    after, state = feed([NAN] * 20 + [1e4] * 5, params, state, step, tx)
    chex.assert_trees_all_equal(after, params)
    assert restores(state) == 0
