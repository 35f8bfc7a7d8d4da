"""Batches that are not learnt from, and how many there may be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax._types import UNSET
from adaptive_optax.law import Law
from adaptive_optax.supervise import skip
from tests.helpers import always
from tests.supervise.driving import LAW, STEP, calm, feed, restores, updater


def skips(state):
    return state.recovery.judges.skip


def levels(state):
    return state.recovery.judges.levels


def test_a_batch_far_outside_leaves_no_trace_but_its_count():
    params, state = feed(calm(85))
    after, there = feed([1e4], params, state)
    chex.assert_trees_all_equal(after, params)
    chex.assert_trees_all_equal(there.inner_state, state.inner_state)
    np.testing.assert_array_equal(there.sensor.series, state.sensor.series)
    assert float(there.lr_scale) == 1.0
    assert int(skips(there).skipped) == 1 and float(skips(there).bucket) == 1.0
    # In the audit of the start it is learnt from.
    params, state = feed(calm(30))
    after, there = feed([1e4], params, state)
    assert (after["w"] != params["w"]).all() and int(skips(there).skipped) == 0


@pytest.mark.parametrize("signed", [False, True])
def test_far_outside_is_far_above_the_good_loss(signed):
    # From 8 down to 2, or to -2: then 0 is not the lower bound of the loss.
    fall = np.linspace(8.0, -2.0 if signed else 2.0, 75)
    params, state = feed([*fall, *calm(25, fall[-1])])
    known = levels(state)
    good, span = float(known.good_value), 8.0 - float(known.lowest_value)
    scale = span / 2 if signed else max(abs(good), span / 20)
    limit = good + 2 * scale + 6 * float(known.good_noise)
    for value, far in ((0.99 * limit, 0), (1.01 * limit, 1)):
        _, there = feed([value], params, state)
        assert int(skips(there).skipped) == far


def test_a_gradient_far_above_the_usual_is_far_outside_too():
    # Adam would remember its square for a thousand steps.
    params, state = feed(calm(85))
    value = calm(86)[85]
    for size, far in ((9.9, 0), (10.1, 1), (1e6, 1)):
        moved, there = STEP(params, state, value, size)
        assert int(skips(there).skipped) == far
        assert (moved["w"] == params["w"]).all() == far
    # In the audit of the start it is learnt from.
    _, there = STEP(*feed(calm(30)), value, 1e6)
    assert int(skips(there).skipped) == 0


def test_gradients_that_stay_larger_are_accepted_once():
    params, state = feed(calm(85))
    for value in calm(200):
        params, state = STEP(params, state, value, 100.0)
    assert 10 < int(skips(state).skipped) < 20 and restores(state) == 1
    assert not state.recovery.judges.auditing
    np.testing.assert_allclose(
        state.sensor.gradient[0], np.log(100 * np.sqrt(9.0)), rtol=1e-5
    )


def test_a_rare_reward_is_learnt_from_though_its_gradient_is_as_rare():
    tx, params = ao.adaptive_sgd(1e-3, average=False), jnp.ones(2)

    def step(state, now):
        size, reward = now
        grads = params * size
        updates, state = tx.update(grads, state, params, value=0.0, reward=reward)
        return state, (updates[0] != 0, skips(state).skipped)

    size = np.full(90, 1e-3, np.float32)
    reward = np.zeros_like(size)
    size[[80, 85]], reward[85] = 1.0, 1.0
    _, (moved, skipped) = jax.jit(jax.lax.scan, static_argnums=0)(
        step, tx.init(params), (size, reward)
    )
    assert not moved[80] and moved[85]
    assert skipped[-1] == 1


def test_near_zero_a_share_of_what_was_gained_is_not_far():
    # Many times the good loss, and still as good as nothing.
    values = [*np.linspace(2.0, 1e-6, 75), *[1e-6] * 100]
    params, state = feed(values)
    assert float(levels(state).good_value) < 1e-3
    for value, far in ((0.15, 0), (0.5, 1)):
        _, there = feed([value], params, state)
        assert int(skips(there).skipped) == far


def test_a_bad_batch_in_twenty_five_is_skipped_for_good():
    # The bucket drains by a twentieth a step.
    values = calm(600)
    values[85::25] = 1e4
    _, state = feed(values)
    assert int(skips(state).skipped) == len(values[85::25])
    assert float(skips(state).bucket) < 2.0
    assert restores(state) == 0 and float(state.lr_scale) == 1.0


def test_what_is_not_finite_does_not_fill_the_bucket():
    params, state = feed(calm(85))
    _, there = feed([np.nan] * 4, params, state)
    assert float(skips(there).bucket) == 0 and int(skips(there).skipped) == 0
    moved, there = STEP(params, state, np.inf)
    assert float(skips(there).bucket) == 0 and int(skips(there).skipped) == 0
    assert (moved["w"] != params["w"]).all()


@pytest.mark.parametrize(
    "count, most", [(0, 10), (100, 15), (1000, 60), (1800, 100), (10**6, 100)]
)
def test_the_bucket_holds_ten_and_a_twentieth_of_the_age_a_hundred_at_most(count, most):
    state, filled = skip.init_skip(), 0
    for _ in range(200):
        room = bool(skip.room(state, jnp.int32(count), LAW))
        filled += room
        state = state._replace(bucket=state.bucket + room)
    assert filled == most


def test_where_the_bucket_is_full_these_are_the_new_data():
    params, state = feed(calm(80))
    noise = float(levels(state).good_noise)
    steps = 0
    while int(state.recovery.judges.audit.audit_left) == 0:
        params, state = feed([50.0], params, state)
        steps += 1
        if int(skips(state).unsettled) == 0:
            good = state.recovery.copy.good_params
    # 14 batches, the check of the trial, and the one that is accepted.
    assert steps == 16 and int(skips(state).skipped) == 14
    assert restores(state) == 1
    # The run starts again from the good parameters. A safe rate stays what it is.
    moved = jax.tree.map(lambda g, p: bool((g != p).any()), good, params)
    assert all(jax.tree.leaves(moved))
    chex.assert_trees_all_equal(state.recovery.copy.good_params, good)
    assert float(state.lr_scale) == 1.0
    judges = state.recovery.judges
    assert int(judges.audit.audit_left) == LAW.warmup_steps
    assert float(judges.levels.first_value) == 50.0
    # Their loss is the level, and the noise of before stays until it is measured.
    params, state = feed(calm(20, 50.0), params, state)
    assert levels(state).good_value == UNSET
    params, state = feed(calm(1, 50.0), params, state)
    assert float(levels(state).good_value) == pytest.approx(50.0, rel=0.01)
    assert float(levels(state).good_noise) == noise > 0
    # It is watched like the old one.
    _, state = feed([1e5] * 5, params, state)
    assert restores(state) == 2 and float(state.lr_scale) == 1.0


@pytest.mark.parametrize("age, held", [(80, 31), (400, 88)])
def test_new_data_begin_at_half_of_the_trusted_rate_and_hold_every_gain(age, held):
    # A fifth of the run's age, or 31 losses.
    tx = ao.adaptive_scheduler(
        optax.sgd, 0.01, rule=always(0.02), average=False, lr_bounds=(1e-5, 0.03)
    )
    step = updater(tx)
    params, state = feed(calm(age), step=step, tx=tx)
    assert float(state.lr_scale) == pytest.approx(3.0, rel=1e-4)
    while not int(skips(state).unsettled):
        params, state = feed([50.0], params, state, step, tx)
    scale = float(state.lr_scale)
    assert scale == pytest.approx(0.5, rel=1e-4)
    for t in range(held + 6):
        params, state = feed(calm(1, 50.0), params, state, step, tx)
        if t < held - 4:
            assert float(state.lr_scale) == scale
    assert float(state.lr_scale) > scale


def test_without_this_part_nothing_is_far_outside():
    tx = ao.adaptive_scheduler(
        optax.sgd, 0.01, law=Law(skip=None), average=False, mode="nudge"
    )
    step = updater(tx)
    params, state = feed(calm(85), step=step, tx=tx)
    after, state = feed([1e4], params, state, step, tx)
    assert (after["w"] != params["w"]).all() and int(skips(state).skipped) == 0
