"""Runs as users set them up: restarts, ensembles, a horizon passed, another rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.contract.driving import QUICK


def train(tx, steps, params=None, state=None, seed=0):
    """Parameters, state and what was told, of a noisy quadratic."""
    params = jnp.ones(5) if params is None else params
    state = tx.init(params) if state is None else state

    def step(carry, key):
        params, state = carry

        def loss(p):
            return jnp.sum((p + 0.1 * jax.random.normal(key, (5,))) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        told = {**ao.snapshot(state), "true": jnp.sum(params**2)}
        return (optax.apply_updates(params, updates), state), told

    def run(params, state, keys):
        return jax.lax.scan(step, (params, state), keys)

    keys = jax.random.split(jax.random.key(seed), steps)
    run = jax.jit(run, compiler_options=QUICK)
    (params, state), told = run(params, state, keys)
    return params, state, told


def test_a_cosine_with_restarts():
    cycle = {
        "init_value": 0.0,
        "peak_value": 1e-2,
        "warmup_steps": 10,
        "decay_steps": 100,
    }
    schedule = optax.sgdr_schedule([cycle] * 3)
    _, _, told = train(ao.adaptive_scheduler(optax.adam, schedule), 300)
    base = jax.vmap(schedule)(jnp.arange(300))
    rises = np.flatnonzero(base[1:] > base[:-1])  # the multiplier holds there
    scale = np.asarray(told["lr_scale"])
    start = rises[rises > 100]
    np.testing.assert_array_equal(scale[start], scale[start - 1])
    assert told["restores"][-1] == 0
    assert told["true"][-20:].mean() < 0.1


def test_training_on_beyond_total_steps_changes_nothing():
    tx = ao.adaptive_scheduler(optax.adam, 1e-2, total_steps=100, sigma=1e-3)
    params, state, _ = train(tx, 100)
    after, _, told = train(tx, 30, params, state, seed=1)
    np.testing.assert_array_equal(after, params)
    assert not told["learning_rate"].any() and not told["sigma"].any()


def test_another_rate_at_resume_is_multiplied_as_before():
    _, state, told = train(ao.adaptive_scheduler(optax.adam, 1e-2), 100)
    slower = ao.adaptive_scheduler(optax.adam, 1e-3)
    params, _, after = train(slower, 1, jnp.zeros(5), state)
    ratio = after["learning_rate"][0] / told["learning_rate"][-1]
    assert ratio == pytest.approx(0.1, rel=0.05)


def test_a_member_of_an_ensemble_that_fails_harms_no_other():
    tx = ao.adaptive_scheduler(optax.adam, 1e-2)

    def member(factor):
        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(lambda p: jnp.sum(p**2))(params)
            updates, state = tx.update(
                grads * factor, state, params, value=value * factor
            )
            return (optax.apply_updates(params, updates), state), value

        params = jnp.ones(3)
        return jax.lax.scan(step, (params, tx.init(params)), length=60)[0][0]

    run = jax.jit(jax.vmap(member), compiler_options=QUICK)
    with_one = run(jnp.array([1.0, jnp.nan, 1.0]))
    without = run(jnp.array([1.0, 1.0, 1.0]))
    np.testing.assert_array_equal(with_one[jnp.array([0, 2])], without[:2])
    np.testing.assert_array_equal(with_one[1], 1.0)  # where it began
