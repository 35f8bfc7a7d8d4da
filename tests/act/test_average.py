"""The evaluation average: its equation, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax.act.average import (
    LONGEST,
    absorb,
    average_params,
    eval_params,
    init_average,
)
from tests.act.averaging import AVERAGE, PARAMS


def twin(values, power=8.0, every=10):
    mean, t, wait = np.nan, 0, 0
    for theta in values:
        if wait == 0:
            weight = (power + 1) / (t + power + 1)
            if not np.isfinite(mean):
                mean = theta
            elif np.isfinite(theta):
                mean = mean + weight * (theta - mean)
            t, wait = t + 1, every
        wait = max(wait - 1, 0)
    return mean, t


@pytest.mark.parametrize("every", [1, 3, 10])
@pytest.mark.parametrize("power", [0.0, 2.5, 8.0])
def test_matches_its_equation(power, every):
    values = np.random.default_rng(0).normal(2.0, 1.0, 300)
    values[[0, 7, 40]] = np.nan, np.inf, -np.inf

    def step(state, value):
        return absorb(state, {"w": value}, power=power, every=every), None

    init = init_average({"w": jnp.zeros(())})
    state, _ = jax.lax.scan(step, init, jnp.asarray(values, jnp.float32))
    mean, t = twin(values, power, every)
    np.testing.assert_allclose(state.average["w"], mean, rtol=1e-5)
    assert state.average_count == t


def test_power_zero_is_the_plain_mean():
    state = init_average(jnp.zeros(()))
    for value in (1.0, 2.0, 6.0):
        state = absorb(state, jnp.float32(value), power=0.0, every=1)
    np.testing.assert_allclose(state.average, 3.0, rtol=1e-6)


@pytest.mark.parametrize("power", [0.0, 8.0])
def test_the_weights_of_a_long_run_fall_no_further(power):
    def moved(count):
        state = init_average(jnp.zeros(()))._replace(average_count=jnp.int32(count))
        return float(absorb(state, jnp.float32(1.0), power=power, every=1).average)

    assert moved(LONGEST - 2) > moved(LONGEST - 1) == moved(LONGEST) == moved(2**31 - 1)
    np.testing.assert_allclose(
        moved(LONGEST), (power + 1) / (LONGEST + power), rtol=1e-6
    )


def test_unhealthy_parameters_wait_for_the_next_healthy_step():
    state = init_average(jnp.zeros(()))
    for value, healthy in ((1.0, False), (2.0, True), (3.0, True), (9.0, False)):
        state = absorb(
            state, jnp.float32(value), healthy=jnp.asarray(healthy), every=10
        )
    assert state.average_count == 1
    assert state.average == 2.0


def test_reset_restarts_from_the_parameters():
    state = init_average(jnp.zeros(()))
    state = absorb(state, jnp.float32(5.0), every=2)
    again = absorb(state, jnp.float32(3.0), reset=jnp.asarray(True), every=2)
    assert again.average == 3.0 and again.average_count == 1
    assert again.average_wait == 1
    # Nothing of the old average survives, healthy or not.
    empty = absorb(state, jnp.float32(jnp.nan), reset=jnp.asarray(True))
    assert eval_params(empty, jnp.float32(7.0)) == 7.0
    far = absorb(state, jnp.float32(1e30), reset=jnp.asarray(True))
    back = absorb(far, jnp.float32(1.5), reset=jnp.asarray(True))
    assert back.average == 1.5  # 1e30 + (1.5 - 1e30) would be 0


def test_an_entry_that_is_not_finite_is_left_out_by_itself():
    # It kept the whole tree out: one bad entry, and nothing was ever averaged again.
    state, bad = init_average(jnp.zeros(3)), jnp.nan
    for values in ([1.0, bad, -jnp.inf], [3.0, bad, -jnp.inf], [bad, 4.0, -jnp.inf]):
        state = absorb(state, jnp.asarray(values), power=0.0, every=1)
        shown = eval_params(state, jnp.asarray([9.0, 9.0, -jnp.inf]))
    np.testing.assert_array_equal(state.average, [2.0, 4.0, -jnp.inf])
    np.testing.assert_array_equal(shown, [2.0, 4.0, -jnp.inf])
    first = absorb(init_average(jnp.zeros(2)), jnp.asarray([1.0, bad]))
    np.testing.assert_array_equal(eval_params(first, jnp.full(2, 9.0)), [1.0, 9.0])


def test_only_the_condition_touches_the_tree():
    params = jnp.ones(1000)
    program = jax.make_jaxpr(absorb)(init_average(params), params)
    for equation in program.eqns:
        if equation.primitive.name != "cond":
            assert all(v.aval.shape == () for v in equation.outvars), equation


def test_low_precision_parameters_are_averaged_in_float32():
    values = jnp.asarray(np.random.default_rng(1).uniform(400, 600, 300), jnp.bfloat16)

    def step(state, value):
        return absorb(state, value, power=0.0, every=1), None

    state, _ = jax.lax.scan(step, init_average(values[0]), values)
    assert state.average.dtype == jnp.float32
    mean = np.asarray(values, np.float64).mean()
    np.testing.assert_allclose(state.average, mean, rtol=1e-5)
    assert eval_params(state, values[0]).dtype == jnp.bfloat16


def test_updates_pass_through_untouched():
    updates = {"w": jnp.asarray([-0.0, jnp.nan])}
    out, _ = AVERAGE.update(updates, AVERAGE.init(updates), updates, value=1.0, x=2)
    assert out is updates


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: average_params(power=-1.0), ValueError, r"`power`.*-1\.0.*power=8"),
        (lambda: average_params(every=0), ValueError, "`every`.*0.*every=2"),
        (lambda: average_params(every=2.5), TypeError, r"`every`.*2\.5"),
        (
            lambda: AVERAGE.update(PARAMS, AVERAGE.init(PARAMS)),
            ValueError,
            "average_params.*params=None",
        ),
        (
            lambda: eval_params(optax.adam(0.1).init(PARAMS), PARAMS),
            ValueError,
            "no average.*average=True",
        ),
        (
            lambda: eval_params(AVERAGE.init(PARAMS), {"w": PARAMS["w"]}),
            ValueError,
            r"shape \(3,\) at \['b'\]",
        ),
        (
            lambda: eval_params(AVERAGE.init(PARAMS), {**PARAMS, "b": jnp.ones(4)}),
            ValueError,
            "params given to init",
        ),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()
