"""`scale_by_rule`: one rule, one gain, in a chain."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.helpers import always

PARAMS = {"w": jnp.ones((2, 3))}
UPDATES = {"w": jnp.full((2, 3), -0.5)}


def run(tx, steps, updates=UPDATES, **feedback):
    state = tx.init(PARAMS)
    for _ in range(steps):
        scaled, state = tx.update(updates, state, PARAMS, **feedback)
    return scaled, state


def test_updates_are_multiplied_by_the_exponential_of_the_answers():
    scaled, state = run(ao.scale_by_rule(always(0.1)), 3, value=1.0)
    assert float(state.rule_scale) == pytest.approx(math.exp(0.3), rel=1e-6)
    np.testing.assert_allclose(scaled["w"], -0.5 * math.exp(0.3), rtol=1e-6)


def test_without_feedback_updates_pass_to_the_bit():
    scaled, state = run(ao.scale_by_rule(always(0.1)), 3)
    chex.assert_trees_all_equal(scaled, UPDATES)
    assert float(state.rule_scale) == 1.0


@pytest.mark.parametrize("feedback", ["value", "reward"])
def test_either_feedback_moves_it(feedback):
    _, state = run(ao.scale_by_rule(always(0.1)), 1, **{feedback: 1.0})
    assert float(state.rule_scale) > 1.0


def test_bounds_and_slew_hold():
    tx = ao.scale_by_rule(always(5.0), bounds=(0.5, 3.0), slew=0.25)
    scales = []
    state = tx.init(PARAMS)
    for _ in range(8):
        _, state = tx.update(UPDATES, state, PARAMS, value=1.0)
        scales.append(float(state.rule_scale))
    np.testing.assert_allclose(
        scales, np.minimum(np.exp(0.25 * np.arange(1, 9)), 3.0), rtol=1e-5
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_holds_the_gain_and_passes_the_updates(bad):
    tx = ao.scale_by_rule(always(0.1))
    _, state = run(tx, 2, value=1.0)
    broken = {"w": UPDATES["w"].at[0, 0].set(bad)}
    scaled, after = tx.update(broken, state, PARAMS, value=1.0)
    np.testing.assert_array_equal(after.rule_scale, state.rule_scale)
    assert not np.isfinite(scaled["w"][0, 0])
    chex.assert_tree_all_finite(after.rule_sensor.cosines)
    assert int(after.rule_sensor.nonfinite[2]) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_holds_the_gain(bad):
    tx = ao.scale_by_rule(always(0.1))
    _, state = run(tx, 2, value=1.0)
    _, after = tx.update(UPDATES, state, PARAMS, value=bad)
    np.testing.assert_array_equal(after.rule_scale, state.rule_scale)
    assert list(after.rule_sensor.nonfinite) == [1, 0, 0]


def test_a_gain_goes_on_after_a_step_that_was_not_finite():
    # The sketch of a NaN step would have poisoned every alignment after it.
    tx = ao.scale_by_rule(ao.rules.alignment(up_evidence=0.0), bounds=(1e-4, 1e4))
    state = tx.init(PARAMS)
    for t in range(30):
        bad = jnp.nan if t == 3 else 1.0
        updates = jax.tree.map(lambda u, bad=bad: bad * u, UPDATES)
        _, state = tx.update(updates, state, PARAMS, value=1.0)
    chex.assert_tree_all_finite(state)
    assert float(state.rule_scale) > 1.0


def test_alignment_is_of_the_gradient_where_it_is_given():
    tx = ao.scale_by_rule(always(0.0))
    against = jax.tree.map(jnp.negative, UPDATES)
    for grad, expected in ((against, 1.0), (UPDATES, -1.0), (None, 1.0)):
        extra = {} if grad is None else {"grad": grad}
        _, state = run(tx, 3, value=1.0, **extra)
        signs = np.sign(state.rule_sensor.cosines[0, 0])
        assert signs == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_updates_keep_their_type(dtype):
    updates = jax.tree.map(lambda u: u.astype(dtype), UPDATES)
    scaled, _ = run(ao.scale_by_rule(always(0.1)), 2, updates, value=1.0)
    chex.assert_trees_all_equal_dtypes(scaled, updates)


def test_in_a_chain_it_is_the_learning_rate():
    tx = optax.chain(optax.scale(-0.1), ao.scale_by_rule(always(math.log(2.0))))
    state, grads = tx.init(PARAMS), {"w": jnp.ones((2, 3))}
    updates, _ = jax.jit(tx.update)(grads, state, PARAMS, value=1.0)
    np.testing.assert_allclose(updates["w"], -0.2, rtol=1e-6)


BAD = [
    ({"rule": "trend"}, TypeError, r"`rule` must be a Rule, got 'trend'; try scale_by"),
    ({"rule": ao.rules.trend}, TypeError, "`rule` must be a Rule, got <function trend"),
    ({"bounds": (2.0, 1.0)}, ValueError, r"`bounds` is reversed: 2.0 > 1.0"),
    ({"bounds": (0.0, 1.0)}, ValueError, r"`bounds\[0\]` must lie in .* got 0.0"),
    ({"bounds": (2.0, 4.0)}, ValueError, r"start` must lie in \[2, 4\], got 1.0"),
    ({"bounds": 3.0}, TypeError, r"`bounds` must be a pair \(low, high\), got 3.0"),
    ({"slew": 0.0}, ValueError, r"`slew` must lie in \(0, inf\], got 0.0"),
    ({"slew": -1}, ValueError, r"`slew` must lie in \(0, inf\], got -1"),
    ({"sketch": 0.0}, ValueError, r"`sketch` must lie in \(0, 1\], got 0.0"),
    ({"sketch": 2}, ValueError, r"`sketch` must lie in \(0, 1\], got 2"),
]


@pytest.mark.parametrize("options, error, message", BAD)
def test_bad_input_is_quoted(options, error, message):
    with pytest.raises(error, match=message):
        ao.scale_by_rule(**{"rule": ao.rules.trend(), **options})


def test_a_vector_of_losses_is_quoted():
    tx = ao.scale_by_rule(ao.rules.trend())
    with pytest.raises(ValueError, match=r"`value` must be a scalar, got shape \(4,\)"):
        tx.update(UPDATES, tx.init(PARAMS), PARAMS, value=jnp.ones(4))
