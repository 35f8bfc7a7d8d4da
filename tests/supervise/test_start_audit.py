"""The audit of the start."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.supervise import supervisor
from tests.rules.signal_streams import one_step
from tests.supervise.driving import (
    LAW,
    PARAMS,
    STEP,
    TX,
    calm,
    failed_starts,
    feed,
    first,
    judge_on,
    restores,
    updater,
)


@pytest.mark.parametrize("level, fails", [(2.0, True), (1.0, False)])
def test_dead_gradients_fail_the_audit_where_nothing_was_gained(level, fails):
    # Units that have died leave no trace in the loss; a minimum has small gradients.
    params, state = feed(calm(8))
    for value in calm(2, level):
        params, state = STEP(params, state, value, size=0.05)
    assert restores(state) == fails
    params, state = feed(calm(1, level), params, state)
    assert failed_starts(state) == fails
    if fails:
        chex.assert_trees_all_equal(params, PARAMS)


def test_a_minimum_reached_through_noise_is_no_death():
    # One calm change was as large as the first loss; the gain is plain all the same.
    params, state = feed([1.8, 2.4, 0.3, 1.9, 0.1])
    for value in (0.003, 0.01, 0.003):
        params, state = STEP(params, state, value, size=0.05)
    assert restores(state) == 0


@pytest.mark.parametrize("before, share", [(4, 0.3), (12, 0.7), (30, 1.0)])
def test_a_start_fails_at_the_rate_that_the_warm_up_had_reached(before, share):
    # To a fifth of the full rate it would have to fall once more, and once more.
    params, state = feed([*calm(before), 1e4, 1e4])
    assert restores(state) == 1 and float(state.lr_scale) == 1.0
    params, state = feed(calm(1), params, state)
    chex.assert_trees_all_equal(params, PARAMS)
    assert failed_starts(state) == 1
    assert float(state.lr_scale) == pytest.approx(0.2 * share, rel=1e-5)
    # The next start is warmed up again, and then has passed, at half of that.
    params, state = feed(calm(20), params, state)
    judges = state.recovery.judges
    assert int(judges.audit.audit_left) == 0 and int(judges.trial.restores) == 1
    assert float(state.lr_scale) == pytest.approx(0.1 * share, rel=1e-5)
    trusted = float(judges.trusted_log_scale)
    assert trusted == pytest.approx(np.log(0.1 * share), rel=1e-5)
    assert float(judges.trial.owed) == 0.0  # what a start has lost is not repaid


def test_one_bad_batch_more_than_good_ones_is_no_failure_of_a_start():
    _, state = feed([*calm(5), *[1e4, 2.0] * 10, *calm(30)])
    assert restores(state) == 0 and float(state.lr_scale) == 1.0


def test_in_a_start_the_first_overflow_is_free_and_the_next_is_not():
    overflow = [*calm(5), np.nan, np.nan, 2.0]
    params, state = feed(overflow)
    assert restores(state) == 1 and failed_starts(state) == 0
    assert float(state.lr_scale) == 1.0
    assert int(state.recovery.judges.audit.audit_left) == LAW.audit.steps
    _, state = feed(overflow, params, state)
    assert restores(state) == 2 and failed_starts(state) == 1
    assert float(state.lr_scale) < 0.2


@pytest.mark.parametrize("before", [[], [2.0, np.nan, np.nan, np.nan, 2.0]])
def test_overflows_before_the_first_step_are_no_fault_of_the_rate(before):
    # A dynamic loss scale begins too high, and every gradient overflows.
    params, state = feed([*before, *[np.nan] * 9])
    assert failed_starts(state) == 0 and float(state.lr_scale) == 1.0
    chex.assert_trees_all_equal(params, PARAMS)
    _, state = feed(calm(70), params, state)
    assert int(state.recovery.judges.audit.audit_left) == 0
    assert float(state.lr_scale) == 1.0


def test_a_first_loss_that_is_low_by_luck_costs_a_replay_and_no_rate():
    # Where the first batch is easy every later loss at the same parameters is high.
    state, log_scale = supervisor.init_judges(LAW), 0.0
    for value in (0.5, *[2.0] * 90):
        signals = one_step(loss__value=value, loss__fast=value, alignment__count=0)
        _, state, log_scale = judge_on(state, signals, log_scale)
    assert int(state.audit.audit_failures) == 0 and int(state.audit.audit_left) == 0
    assert int(state.trial.restores) == 1 and float(log_scale) == 0.0
    assert float(state.levels.first_value) == 2.0


@pytest.mark.parametrize("every", [1, 3, 10])
def test_a_loss_now_and_then_is_warmed_up_to_all_the_same(every):
    params, state, rates = PARAMS, TX.init(PARAMS), []
    for t in range(60):
        params, state = STEP(params, state, None if t % every else 2.0)
        rates.append(float(state.learning_rate))
    expected = 0.01 * np.minimum(np.arange(2, 62) / 20, 1)
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert int(state.recovery.judges.audit.audit_left) == (0 if every == 1 else 1)


def test_who_gives_no_loss_is_never_slowed():
    params, state = feed([None] * 30)
    for value in (None, 2.0, None):
        params, state = STEP(params, state, value)
        assert float(state.learning_rate) == np.float32(0.01)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_steps_that_were_not_taken_are_none_of_an_audit(every):
    state = TX.init(PARAMS)
    for t in range(40):
        _, state = STEP(PARAMS, state, None if t % every else 2.0, size=np.nan)
    assert failed_starts(state) == 0
    assert float(state.lr_scale) == 1.0
    assert int(state.recovery.judges.audit.audit_left) == LAW.audit.steps


def test_a_broken_rate_is_cut_twelve_times_at_most_in_the_audit():
    # Then the data is to blame, and the run goes on.
    params, state = feed([2.0] + [1e4, 1e4, 2.0, 2.0] * 30)
    assert failed_starts(state) == LAW.audit.max_failures
    params, state = feed(calm(65), params, state)
    chex.assert_tree_all_finite(params)
    assert int(state.recovery.judges.audit.audit_left) == 0


def test_an_audit_that_starts_over_starts_the_average_over():
    # Parameters of a start that was thrown away are no part of any mean.
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, mode="safe")
    step = updater(tx)
    params, state = feed([*[2.0] * 6, 1e4], step=step, tx=tx)
    assert int(state.averaging.average_count) == 3
    assert (ao.eval_params(state, params)["w"] < PARAMS["w"]).all()
    params, state = feed([1e4, 2.0, 2.0], params, state, step=step, tx=tx)
    assert failed_starts(state) == 1
    assert int(state.averaging.average_count) == 1
    chex.assert_trees_all_equal(ao.eval_params(state, params), PARAMS)


def test_one_gradient_that_is_not_finite_is_no_dead_one():
    # Its norm says nothing, and its loss was measured where the one before was.
    levels = first(jnp.float32(1.0))._replace(first_norm=jnp.float32(1.0))
    state = supervisor.init_judges(LAW)._replace(levels=levels)
    signals = one_step(grad_norm=0.0, alignment__mean=-0.1, alignment__count=5)
    _, state, _ = judge_on(state, one_step(), 0.0)
    verdict, state, log_scale = judge_on(state, signals, 0.0, nonfinite=True)
    assert not verdict.restore and float(log_scale) == 0
    assert int(state.trial.strikes) == 1


def test_a_first_batch_that_overflows_takes_nothing_off_the_rate():
    # The next loss is higher by chance: the parameters are still the first ones.
    tx = ao.adaptive_sgd(0.01)
    state = tx.init(PARAMS)
    for value, fault in ((1.0, np.nan), (1.6, 0.0), (1.0, 0.0)):
        grads = jax.tree.map(lambda p, fault=fault: jnp.ones_like(p) + fault, PARAMS)
        _, state = tx.update(grads, state, PARAMS, value=value)
    assert float(state.lr_scale) == 1.0 and restores(state) == 0
