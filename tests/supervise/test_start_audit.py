"""The start on probation."""

import functools

import chex
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
    feed,
    first,
    judge_on,
    updater,
)


@pytest.mark.parametrize("level, fails", [(2.0, True), (1.0, False)])
def test_dead_gradients_fail_the_audit_where_nothing_was_gained(level, fails):
    # Units that have died leave no trace in the loss; a minimum has small gradients.
    params, state = feed(calm(8))
    for value in calm(3, level):
        params, state = STEP(params, state, value, size=0.05)
    assert int(state.recovery.judges.audit.audit_failures) == fails
    params, state = feed(calm(1, level), params, state)
    if fails:
        chex.assert_trees_all_equal(params, PARAMS)


@pytest.mark.parametrize("before, share", [(4, 0.25), (12, 0.65), (30, 1.0)])
def test_a_start_fails_at_the_rate_that_the_warm_up_had_reached(before, share):
    # To a fifth of the full rate it would have to fall once more, and once more.
    params, state = feed([*calm(before), 1e4, 1e4, 1e4])
    assert int(state.recovery.judges.audit.audit_failures) == 1
    assert float(state.lr_scale) == pytest.approx(0.2 * share, rel=1e-5)
    # The next start is warmed up again, and then has passed, at half of that.
    params, state = feed(calm(22), params, state)
    assert int(state.recovery.judges.audit.audit_left) == 0
    assert float(state.lr_scale) == pytest.approx(0.1 * share, rel=1e-5)
    assert int(state.recovery.judges.restores) == 1
    trusted = float(state.recovery.judges.trusted_log_scale)
    assert trusted == pytest.approx(np.log(0.1 * share), rel=1e-5)


@pytest.mark.parametrize("before", [[], [2.0, np.nan, np.nan, np.nan, 2.0]])
def test_overflows_before_the_first_step_are_no_fault_of_the_rate(before):
    # A dynamic loss scale begins too high, and every gradient overflows.
    params, state = feed(before)
    failures, scale = (
        int(state.recovery.judges.audit.audit_failures),
        float(state.lr_scale),
    )
    params, state = feed([np.nan] * 9, params, state)
    assert int(state.recovery.judges.audit.audit_failures) == failures
    assert float(state.lr_scale) == scale
    assert int(state.recovery.judges.strikes) == 0
    _, state = feed(calm(70), params, state)
    assert int(state.recovery.judges.audit.audit_left) == 0


@pytest.mark.parametrize(
    "gain, persistence, fails",
    [(0.4, 0.5, 1), (0.6, 0.5, 0), (-3.0, 0.5, 1), (0.1, 0.0, 1), (0.2, 0.0, 0)],
)
def test_opposition_is_no_failure_once_the_loss_has_halved(gain, persistence, fails):
    # Without memory steps are opposed at every rate: there the loss need only fall.
    signals = one_step(
        alignment__mean=-0.5,
        alignment__slow=-0.5,
        loss__drop=gain,
        alignment__count=25,
        step_correlation__mean=persistence,
    )
    state = supervisor.init_judges(LAW)._replace(levels=first(signals.loss.value))
    _, state, _ = judge_on(state, signals, 0.0, False)
    assert int(state.audit.audit_failures) == fails


@pytest.mark.parametrize("trend, fails", [(0.7, 1), (0.9, 0)])
def test_opposition_is_no_failure_while_the_loss_clearly_falls(trend, fails):
    signals = one_step(
        alignment__mean=-0.5,
        alignment__count=25,
        step_correlation__mean=0.5,
        loss__trend=trend,
    )
    state = supervisor.init_judges(LAW)._replace(levels=first(signals.loss.value))
    _, state = supervisor.judge(state, signals, 0.0, LAW, nonfinite=jnp.zeros((), bool))
    assert int(state.audit.audit_failures) == fails


@pytest.mark.parametrize("trust, fails", [(3.0, 1), (6.0, 0), (np.inf, 0)])
def test_the_more_the_base_rate_is_trusted_the_more_opposition_it_takes(trust, fails):
    signals = one_step(
        alignment__mean=-0.12,
        alignment__sem=0.1,
        alignment__count=25,
        step_correlation__mean=0.5,
    )
    state = supervisor.init_judges(LAW)._replace(levels=first(signals.loss.value))
    _, state = supervisor.judge(
        state,
        signals,
        0.0,
        LAW._replace(trust=trust),
        nonfinite=jnp.zeros((), bool),
    )
    assert int(state.audit.audit_failures) == fails


@pytest.mark.parametrize(
    "alignment, persistence, count, fails",
    [(-0.3, 0.5, 9, 1), (-0.1, 0.5, 9, 0), (-0.3, -0.1, 9, 0), (-0.3, 0.5, 21, 0)],
    ids=["overshot", "unclear", "turns with the gradient", "warmed up"],
)
def test_steps_that_carry_on_against_the_gradient_have_overshot(
    alignment, persistence, count, fails
):
    signals = one_step(
        alignment__mean=alignment,
        step_correlation__mean=persistence,
        alignment__count=count,
        loss__trend=5.0,
        loss__drop=0.8,
    )
    state = supervisor.init_judges(LAW)
    _, state, _ = judge_on(state, signals, 0.0, False)
    assert int(state.audit.audit_failures) == 0  # the first loss has nothing to oppose
    _, state, _ = judge_on(state, signals, 0.0, False)
    assert int(state.audit.audit_failures) == fails


@pytest.mark.parametrize(
    "before, count, persistence, gain, fails",
    [
        (0.3, 5, 0.5, 0.4, 1),
        (0.11, 5, 0.5, 0.4, 0),
        (0.3, 3, 0.5, 0.4, 0),
        (0.3, 5, 0.1, 0.4, 0),
        (0.3, 5, 0.5, 0.6, 0),
    ],
    ids=["agreed", "unclear", "too early to tell", "turns with the gradient", "halved"],
)
def test_an_agreement_that_ends_in_the_warm_up_has_been_outrun(
    before, count, persistence, gain, fails
):
    step = functools.partial(
        one_step, step_correlation__mean=persistence, loss__trend=5.0, loss__drop=gain
    )
    agrees = step(
        alignment__mean=before,
        alignment__slow=before,
        alignment__slow_sem=0.1,
        alignment__count=count,
    )
    over = step(
        alignment__mean=-0.11,
        alignment__sem=0.1,
        alignment__slow=0.1,
        alignment__slow_sem=0.1,
        alignment__count=12,
    )
    state = supervisor.init_judges(LAW)
    _, state, _ = judge_on(state, agrees, 0.0, False)
    _, state, _ = judge_on(state, over, 0.0, False)
    assert int(state.audit.audit_failures) == fails
    assert bool(state.audit.audit_agreed) == (before > 0.2 and count > 3 and not fails)


def test_a_first_loss_that_is_low_by_luck_fails_once():
    # Where the first batch is easy every later loss at the same parameters is high.
    state = supervisor.init_judges(LAW)
    for value in (0.5, *[2.0] * 90):
        signals = one_step(loss__value=value, loss__fast=value, alignment__count=0)
        _, state, _ = judge_on(state, signals, 0.0, False)
    assert int(state.audit.audit_failures) == 1 and int(state.audit.audit_left) == 0
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
    assert int(state.recovery.judges.audit.audit_failures) == 0
    assert float(state.lr_scale) == 1.0
    assert int(state.recovery.judges.audit.audit_left) == LAW.audit.steps


def test_a_broken_rate_is_cut_twelve_times_at_most_in_the_audit():
    # Then the data is to blame, and the run goes on.
    _, state = feed([2.0] + [2.0, *[np.nan] * 5] * 30)
    assert int(state.recovery.judges.audit.audit_failures) == LAW.audit.max_failures
    params, state = feed(calm(65), PARAMS, state)
    chex.assert_tree_all_finite(params)
    assert int(state.recovery.judges.audit.audit_left) == 0


def test_an_audit_that_starts_over_starts_the_average_over():
    # Parameters of a start that was thrown away are no part of any mean.
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, mode="safe")
    step = updater(tx)
    params, state = feed([*[2.0] * 6, np.nan, np.nan], step=step, tx=tx)
    assert int(state.averaging.average_count) == 3
    assert (ao.eval_params(state, params)["w"] < PARAMS["w"]).all()
    params, state = feed([np.nan, 2.0, 2.0], params, state, step=step, tx=tx)
    assert int(state.recovery.judges.audit.audit_failures) == 1
    assert int(state.averaging.average_count) == 1
    chex.assert_trees_all_equal(ao.eval_params(state, params), PARAMS)


def test_one_gradient_that_is_not_finite_is_no_dead_one():
    signals = one_step(
        has_gradient=False, grad_norm=0.0, alignment__mean=-0.1, alignment__count=5
    )
    state = supervisor.init_judges(LAW)._replace(
        levels=first(signals.loss.value)._replace(first_norm=jnp.float32(1.0))
    )
    verdict, _ = supervisor.judge(
        state, signals, 0.0, LAW, nonfinite=jnp.ones((), bool)
    )
    assert not verdict.restore and float(verdict.correction) == 0
