"""The filters against Optax at a constant momentum, and their bound at a moving one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_optax import filters

STEPS = 200
ADAM = functools.partial(filters.adam, 1.0)
ADAGRAD = functools.partial(filters.adagrad, 1.0)
HEAVY_BALL = functools.partial(filters.momentum_sgd, 1.0)
HEAVY_BALLS = [
    functools.partial(HEAVY_BALL, nesterov=nesterov, base_momentum=0.9)
    for nesterov in (False, True)
]
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.zeros(3)}

momenta = st.lists(
    st.one_of(
        st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999]),
        st.floats(0.0, 0.9999),
    ),
    min_size=1,
    max_size=30,
)


def gradients(seed=0, steps=STEPS):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.normal(0.3, 1.0, (steps, *p.shape)), jnp.float32)
        for name, p in PARAMS.items()
    }


def train(tx, grads, params=PARAMS):
    """All updates of one run, stacked."""

    def step(carry, grad):
        params, state = carry
        updates, state = tx.update(grad, state, params)
        return (optax.apply_updates(params, updates), state), updates

    return jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), grads)[1])()


@functools.cache  # so that hypothesis compiles once
def runner(factory):
    def step(carry, xs):
        params, state = carry
        momentum, grad = xs
        updates, state = factory(momentum).update(grad, state, params)
        return (params, state), updates

    @jax.jit
    def run(momenta, grads):
        params = jnp.zeros(())
        state = factory(momenta[0]).init(params)
        return jax.lax.scan(step, (params, state), (momenta, grads))[1]

    return run


def steps_of(factory, momenta, grads):
    """30 updates of one scalar parameter when the momentum is injected each step."""
    momenta = momenta + momenta[-1:] * (30 - len(momenta))
    run = runner(factory)
    updates = run(jnp.asarray(momenta, jnp.float32), jnp.asarray(grads, jnp.float32))
    return np.asarray(updates, np.float64)


def assert_close(ours, theirs, rtol):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = np.max(np.abs(b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


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


def test_base_momentum_is_the_one_at_init_unless_given():
    tx = filters.momentum_sgd(1.0, lambda count: jnp.where(count == 0, 0.5, 0.9))
    assert tx.init(jnp.ones(1))[0].heavy_ball_gain == 2.0
    state = jax.jit(lambda mu: filters.momentum_sgd(1.0, mu).init(jnp.ones(1)))(0.75)
    assert state[0].heavy_ball_gain == 4.0
    tx = filters.momentum_sgd(1.0, 0.9, base_momentum=0.5)
    assert tx.init(jnp.ones(1))[0].heavy_ball_gain == 2.0


@pytest.mark.parametrize(
    "tx",
    [
        filters.momentum_sgd(jnp.float32(0.1), jnp.float32(0.9)),
        filters.adamw(jnp.float32(0.1), jnp.float32(0.9)),
        filters.adagrad(jnp.float32(0.1), jnp.float32(0.9)),
    ],
)
def test_low_precision_is_accumulated_in_float32(tx):
    # A bfloat16 accumulator stalls at 256 times the increment.
    params = {"w": jnp.ones(4, jnp.bfloat16)}
    grads = {"w": jnp.full((400, 4), 0.01, jnp.bfloat16)}
    updates = train(tx, grads, params)["w"]
    assert updates.dtype == jnp.bfloat16
    wide = train(
        tx,
        jax.tree.map(lambda g: g.astype(jnp.float32), grads),
        jax.tree.map(lambda p: p.astype(jnp.float32), params),
    )["w"]
    np.testing.assert_allclose(updates.astype(jnp.float32), wide, rtol=1e-2)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(tx.init(params))}
    assert dtypes <= {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}


def test_complex_gradients_keep_their_phase():
    g = jnp.asarray([3 + 4j, -1j], jnp.complex64)
    tx = filters.adam(1.0)
    state = tx.init(g)
    assert state[0].second_moment.dtype == jnp.float32
    updates, _ = tx.update(g, state)
    np.testing.assert_allclose(updates, -g / jnp.abs(g), rtol=1e-5)


def test_updates_are_float64_for_float64_parameters():
    with jax.enable_x64(True):
        params = jnp.ones(3, jnp.float64)
        for factory in (filters.momentum_sgd, filters.adamw, filters.adagrad):
            tx = factory(0.1)
            updates, state = tx.update(params, tx.init(params), params)
            assert updates.dtype == jnp.float64
            kept = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
            assert all(leaf.dtype == jnp.float64 for leaf in kept)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: filters.momentum_sgd(-0.1), ValueError, r"learning_rate.*-0\.1"),
        (lambda: filters.momentum_sgd(0.1, 1.0), ValueError, r"momentum.*got 1\.0"),
        (lambda: filters.momentum_sgd(0.1, "x"), TypeError, r"momentum=0\.9"),
        (
            lambda: filters.momentum_sgd(0.1, base_momentum=-0.5),
            ValueError,
            r"base_momentum.*-0\.5",
        ),
        (lambda: filters.adam(float("nan")), ValueError, "learning_rate.*nan"),
        (lambda: filters.adam(0.1, b1=1.0), ValueError, r"`b1`.*1\.0.*b1=0\.9"),
        (lambda: filters.adam(0.1, b2=1.5), ValueError, r"`b2`.*1\.5"),
        (lambda: filters.adam(0.1, eps=-1.0), ValueError, "`eps`"),
        (lambda: filters.adam(0.1, eps_root=-1.0), ValueError, "`eps_root`"),
        (lambda: filters.adamw(0.1, weight_decay=-1.0), ValueError, "`weight_decay`"),
        (lambda: filters.adagrad(0.1, -0.1), ValueError, r"momentum.*-0\.1"),
        (lambda: filters.adagrad(0.1, eps=-1.0), ValueError, "`eps`"),
        (
            lambda: filters.adagrad(0.1, initial_accumulator_value=-1.0),
            ValueError,
            "initial_accumulator_value",
        ),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("make", filters.NORMALISED)
def test_swapped_arguments_are_named(make):
    tx, params = make(0.1), {"w": jnp.ones(3), "b": jnp.ones(2)}
    state = tx.init(params)
    with pytest.raises(TypeError, match="`state` and `params` are swapped.*third"):
        tx.update(params, params, state)
    with pytest.raises(TypeError, match="`state` and `grads` are swapped.*first"):
        tx.update(state, params, params)
