"""The filters against Optax at a constant momentum, and their bound at a moving one."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_optax import filters
from tests.act.filtering import assert_close, gradients, momenta, steps_of, train

ADAM = functools.partial(filters.adam, 1.0)
ADAGRAD = functools.partial(filters.adagrad, 1.0)
HEAVY_BALL = functools.partial(filters.momentum_sgd, 1.0)
HEAVY_BALLS = [
    functools.partial(HEAVY_BALL, nesterov=nesterov, base_momentum=0.9)
    for nesterov in (False, True)
]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (filters.momentum_sgd(0.1, 0.9), optax.sgd(0.1, 0.9)),
        (filters.momentum_sgd(0.1, 0.0), optax.sgd(0.1)),
        (filters.momentum_sgd(0.1, 0.99), optax.sgd(0.1, 0.99)),
        (
            filters.momentum_sgd(0.1, 0.9, nesterov=True),
            optax.sgd(0.1, 0.9, nesterov=True),
        ),
        (
            filters.momentum_sgd(optax.linear_schedule(0.1, 0.01, 100)),
            optax.sgd(optax.linear_schedule(0.1, 0.01, 100), 0.9),
        ),
        # 1 - 0.999**t of Optax is itself 1.3e-5 off in float32 at the first steps.
        (filters.adam(0.1), optax.adam(0.1)),
        (
            filters.adam(0.1, 0.5, 0.9, 1e-3, 1e-4),
            optax.adam(0.1, 0.5, 0.9, 1e-3, 1e-4),
        ),
        (filters.adamw(0.1), optax.adamw(0.1)),
        (
            filters.adamw(0.1, weight_decay=0.1, mask={"w": True, "b": False}),
            optax.adamw(0.1, weight_decay=0.1, mask={"w": True, "b": False}),
        ),
        (filters.adagrad(0.1), optax.adagrad(0.1)),
        (
            filters.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-3),
            optax.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-3),
        ),
    ],
)
def test_equals_optax_at_constant_momentum(ours, theirs):
    assert_close(train(ours, gradients()), train(theirs, gradients()), 2e-5)


@pytest.mark.parametrize(
    "factory", [filters.momentum_sgd, filters.adam, filters.adamw, filters.adagrad]
)
def test_number_schedule_and_array_agree(factory):
    tx = factory(0.1, 0.9)
    scheduled = factory(lambda count: 0.1, lambda count: jnp.float32(0.9))
    array = factory(jnp.float32(0.1), jnp.float32(0.9))
    assert_close(train(scheduled, gradients()), train(tx, gradients()), 1e-6)
    assert_close(train(array, gradients()), train(tx, gradients()), 1e-6)


def adam_twin(momenta, grads, alpha=1.0, b2=0.999, eps=1e-8):
    m = v = 0.0
    product, product2 = 1.0, 1.0
    for b1, g in zip(momenta, grads, strict=True):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        product, product2 = product * b1, product2 * b2
        m_hat, v_hat = m / (1 - product), v / (1 - product2)
        yield -alpha * m_hat / (np.sqrt(v_hat) + eps)


def adagrad_twin(momenta, grads, alpha=1.0, total=0.1, eps=1e-7):
    m, product = 0.0, 1.0
    for mu, g in zip(momenta, grads, strict=True):
        total = total + g * g
        m, product = mu * m + (1 - mu) * g / np.sqrt(total + eps), product * mu
        yield -alpha * m / (1 - product)


def heavy_ball_twin(momenta, grads, alpha=1.0):
    m = 0.0
    for mu, g in zip(momenta, grads, strict=True):
        m = mu * m + (1 - mu) * g
        yield -alpha * m / (1 - momenta[0])


@pytest.mark.parametrize(
    ("factory", "twin"),
    [
        (ADAM, adam_twin),
        (ADAGRAD, adagrad_twin),
        (HEAVY_BALL, heavy_ball_twin),
    ],
)
def test_moving_momentum_matches_its_equation(factory, twin):
    rng = np.random.default_rng(3)
    momenta = [float(np.float32(m)) for m in rng.choice([0.0, 0.5, 0.9, 0.99], 30)]
    momenta[0] = float(np.float32(0.9))
    grads = np.asarray(rng.normal(0.5, 1.0, 30), np.float32)
    expected = np.array(list(twin(momenta, grads.astype(np.float64))))
    # b2 enters as a float32 constant in one and as a float64 in the other.
    np.testing.assert_allclose(steps_of(factory, momenta, grads), expected, rtol=3e-5)


@pytest.mark.parametrize(
    ("factory", "twin"),
    [(ADAM, adam_twin), (ADAGRAD, adagrad_twin), (HEAVY_BALL, heavy_ball_twin)],
)
def test_a_momentum_schedule_counts_steps(factory, twin):
    tx = factory(lambda count: jnp.where(count < 3, 0.5, 0.9))
    grads = gradients(steps=8)
    stepped = train(tx, grads)
    g = np.asarray(grads["b"][:, 0], np.float64)
    expected = list(twin([0.5] * 3 + [0.9] * 5, g))
    np.testing.assert_allclose(stepped["b"][:, 0], expected, rtol=3e-5)


@settings(max_examples=40, deadline=None)
@given(momenta, st.floats(1e-3, 1e3))
def test_adam_never_exceeds_its_fixed_step(momenta, gradient):
    steps = steps_of(ADAM, momenta, gradient * np.ones(30))
    assert np.all(np.abs(steps) <= 1 + 1e-5)


@settings(max_examples=40, deadline=None)
@given(momenta, st.floats(1e-3, 1e3), st.sampled_from(HEAVY_BALLS))
def test_heavy_ball_never_exceeds_its_steady_step(momenta, gradient, factory):
    steps = steps_of(factory, momenta, gradient * np.ones(30))
    assert np.all(np.abs(steps) <= 10 * gradient * (1 + 1e-5))


@settings(max_examples=40, deadline=None)
@given(momenta, st.lists(st.floats(-1e3, 1e3, width=32), max_size=30))
def test_adagrad_stays_within_what_it_averages(momenta, grads):
    grads = np.concatenate([np.asarray(grads, np.float32), np.ones(30)])[:30]
    steps = steps_of(ADAGRAD, momenta, grads)
    scaled = np.abs(grads) / np.sqrt(0.1 + np.cumsum(grads.astype(np.float64) ** 2))
    assert np.all(np.abs(steps) <= np.maximum.accumulate(scaled) * (1 + 1e-5))
