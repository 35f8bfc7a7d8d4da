"""Norms of gradients and the way of the steps: precision, overflow, odd trees."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.sense import sensor as sensing
from tests.sense.driving import noisy_fall, quiet, read


def test_gradients_whose_squares_add_up_beyond_float32_leave_a_travel():
    # Over an infinite sum it would be 0, and stay so.
    huge = np.full((20, 17), 2e18)
    signals, state = read(*quiet(noisy_fall(20), gradients=huge))
    assert signals.has_gradient.all() and np.isfinite(state.gradient).all()
    assert (signals.dog_step_size[1:] > 0).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_norms_are_accumulated_in_float32(dtype):
    # In float16 a sum of squares of 300s is inf, in bfloat16 one of 4096 ones is 256.
    grads = {"x": jnp.full(4096, 300.0, dtype)}
    norms = sensing.gradient_norms(grads)
    assert bool(norms.finite)
    assert float(norms.leaf_norms[0]) == pytest.approx(300 * 64, rel=1e-2)


def test_a_gradient_of_complex_numbers_is_measured_whole():
    grads = {"x": jnp.array([3 + 4j, 0j], jnp.complex64)}
    assert float(sensing.gradient_norms(grads).leaf_norms[0]) == pytest.approx(5.0)
    state = sensing.init_sensor(grads, 1.0)
    restored = jnp.zeros((), bool)
    state = sensing.record_step(state, {"x": 1j * grads["x"]}, restored, fraction=1.0)
    signals, _, _ = sensing.measure(
        state, grads, sensing.gradient_norms(grads), fraction=1.0
    )
    # Real and imaginary parts are coordinates: a quarter turn is orthogonal.
    assert float(signals.alignment.value) == pytest.approx(0.0, abs=1e-5)


def test_an_empty_tree_is_measured_as_nothing():
    state = sensing.init_sensor({}, 1.0)
    signals, _, state = sensing.measure(
        state, {}, sensing.gradient_norms({}), value=1.0, fraction=1.0
    )
    sensing.record_step(state, {}, jnp.zeros((), bool), fraction=1.0)
    assert not signals.alignment.arrived and float(signals.grad_norm) == 0.0


def test_steps_whose_squares_overflow_have_no_persistence():
    params = {"w": jnp.zeros(4)}
    state = sensing.init_sensor(params, 1.0)
    for size in (1e20, 1e20, 0.1, 0.1):
        step = {"w": jnp.full(4, size, jnp.float32)}
        state = sensing.record_step(state, step, jnp.zeros((), bool), fraction=1.0)
        signals, _, state = sensing.measure(
            state, params, sensing.gradient_norms(params), fraction=1.0
        )
    carried = signals.step_correlation
    assert np.isfinite(carried.mean) and int(carried.count) == 1  # of the last pair


def test_the_sketch_estimates_alignment_and_travel_of_a_larger_model():
    rng = np.random.default_rng(6)
    params = {"w": jnp.zeros((256, 512))}
    direction = rng.normal(size=(256, 512))
    restored = jnp.zeros((), bool)
    readings = {}
    for fraction in (1.0, 1 / 64):
        state = sensing.init_sensor(params, fraction)
        noise = np.random.default_rng(7)
        for _ in range(3):
            step = {"w": jnp.asarray(-direction + noise.normal(size=(256, 512)))}
            state = sensing.record_step(state, step, restored, fraction=fraction)
            grads = {"w": jnp.asarray(direction + noise.normal(size=(256, 512)))}
            signals, _, state = sensing.measure(
                state, grads, sensing.gradient_norms(grads), fraction=fraction
            )
        readings[fraction] = signals
    assert state.motion.step_sketch["w"].size == params["w"].size / 64
    exact, sketched = readings[1.0], readings[1 / 64]
    assert float(sketched.alignment.value) == pytest.approx(
        float(exact.alignment.value), abs=0.06
    )
    assert float(sketched.dog_step_size) == pytest.approx(
        float(exact.dog_step_size), rel=0.05
    )


def test_steps_that_were_not_taken_leave_the_heading_where_it_was():
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, mode="safe", recovery=False)
    params = {"w": jnp.ones(40)}
    state, update = tx.init(params), jax.jit(tx.update)

    def go(state, grad, steps):
        for _ in range(steps):
            fed = {"w": jnp.full(40, grad)}
            state = update(fed, state, params, value=jnp.float32(1.0))[1]
        return state

    state = go(state, 1.0, 30)
    held = go(state, jnp.nan, 50)
    before, after = state.sensor.motion, held.sensor.motion
    for name in ("anchor_sketch", "displacement_sketch"):
        chex.assert_trees_all_equal(getattr(before, name), getattr(after, name))
    chex.assert_trees_all_equal(before.odometer[:2], after.odometer[:2])
    chex.assert_trees_all_equal(state.sensor.cosines[:, :2], held.sensor.cosines[:, :2])
    assert float(go(held, 1.0, 1).sensor.motion.odometer[0]) == 31
