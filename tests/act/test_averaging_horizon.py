"""The window of the average: short where the average lags, whole where it does not."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.act import average as averaging
from adaptive_optax.act import averaging_horizon
from adaptive_optax.law import Law
from tests.helpers import few

SIZE = 40
CURVATURE = np.geomspace(0.01, 1.0, SIZE).astype(np.float32)


@jax.jit
def follow(params, grads, healthy, reset):
    """The averages and windows of a stream, after every step."""

    def step(carry, fed):
        averages, state = carry
        place, grad, ok, again = fed
        after = averaging_horizon.absorb(
            state,
            averages,
            place,
            grad,
            healthy=ok,
            reset=again,
            restored=again,
            hold=jnp.zeros((), bool),
            law=Law(),
            fraction=1.0,
        )
        return after, after

    start = (
        averaging.init_average(params[0]),
        averaging_horizon.init_window(params[0], 1.0),
    )
    return jax.lax.scan(step, start, (params, grads, healthy, reset))[1]


def twin(params, grads, healthy, reset):
    """The same in float64; yields the average and the age."""
    average = level = np.zeros(params.shape[1])
    age, count, wait = 0.0, 0, 0
    mean = square = mass = 0.0
    seen = 0
    for place, grad, ok, again in zip(params, grads, healthy, reset, strict=True):
        way = average - level
        weight = min(0.05, 9 / (2 * age + 9))
        told = count > 0 and np.any(way) and np.any(grad)
        if told:
            lag = -grad @ way / (np.linalg.norm(grad) * np.linalg.norm(way))
            gap = lag - (mean / mass if mass else 0.0)
            mean += weight * (lag - mean)
            square += weight * (gap**2 - square)
            mass += weight * (1 - mass)
            seen += 1
        z = 0.0
        if told:
            share = max(weight / (2 - weight), 1 / seen)
            z = mean / mass / (math.sqrt(square / mass * share) + 1e-6)
        age *= 1 - 0.05 * min(max((z - 1.0) / 2, 0), 1)
        count = max(round(age), min(count, 1))
        if again:
            age, count, wait, mean, square, mass, seen = 0.0, 0, 0, 0.0, 0.0, 0.0, 0
        if ok and wait == 0:
            share = 9 / (count + 9) if count else 1.0
            average = average + share * (place - average) if count else place
            level = level + share * (average - level) if count else average
            age, count, wait = age + 1, count + 1, 1
        else:
            wait = max(wait - 1, 0)
        yield average, age


def stream(seed, length=400):
    """Noise about a place that begins to travel half-way, gradients that know it."""
    rng = np.random.default_rng(seed)
    time = np.arange(length)[:, None]
    target = 0.02 * np.maximum(time - length / 2, 0)
    params = target - 0.1 * (time > length / 2) + 0.3 * rng.normal(size=(length, SIZE))
    grads = params - target + rng.normal(size=(length, SIZE))
    grads[rng.random(length) < 0.05] = 0.0  # as those that were not finite arrive
    healthy = rng.random(length) < 0.9
    reset = rng.random(length) < 0.005
    return np.float32(params), np.float32(grads), healthy, reset


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_agrees_with_its_twin(seed):
    fed = stream(seed)
    averages, state = follow(*fed)
    slow = zip(*twin(np.float64(fed[0]), np.float64(fed[1]), *fed[2:]), strict=True)
    expected, ages = map(np.asarray, slow)
    assert ages.max() > 30 and (np.diff(ages) < -1).any()  # both ways
    np.testing.assert_allclose(state.window_age, ages, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(averages.average, expected, rtol=1e-3, atol=1e-4)


@functools.partial(jax.jit, static_argnames="inner")
def excess(inner, rate, noise, drift):
    """Mean loss of the last 200 steps: of θ, of our average and of a fixed one."""
    steps = 4000
    tx = ao.adaptive_scheduler(inner, rate, mode="safe", recovery=False)
    fixed = ao.average_params(every=2)

    def step(carry, t):
        params, state, fixed_state = carry
        minimum = drift * jnp.maximum(t - steps / 2, 0)
        draw = jax.random.normal(jax.random.fold_in(jax.random.key(0), t), (SIZE,))

        def loss(x):
            return 0.5 * jnp.sum(CURVATURE * (x - minimum) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        grads = grads + noise * jnp.sqrt(CURVATURE) * draw
        updates, state = tx.update(grads, state, params, value=value)
        _, fixed_state = fixed.update(updates, fixed_state, params)
        params = optax.apply_updates(params, updates)
        seen = (
            params,
            ao.eval_params(state, params),
            ao.eval_params(fixed_state, params),
        )
        return (params, state, fixed_state), jnp.stack([loss(x) for x in seen])

    params = jnp.ones(SIZE)
    start = params, tx.init(params), fixed.init(params)
    _, losses = jax.lax.scan(step, start, jnp.arange(steps))
    return losses[-200:].mean(0)


# One program for both tests.
SGD = optax.sgd, 0.1


@pytest.mark.parametrize("inner, rate", few([SGD, (optax.adam, 0.01)], [SGD]))
def test_a_run_that_has_arrived_keeps_its_average(inner, rate):
    last, ours, fixed = excess(inner, rate, noise=0.3, drift=0.0)
    assert ours < 1.15 * fixed and ours < 0.5 * last


@pytest.mark.parametrize("size", few([1, 4], [1]))
def test_a_few_coordinates_keep_it_as_well(size):
    # Their cosines are all noise: half a standard error is seen all the time.
    tx = ao.adaptive_scheduler(optax.adam, 0.005, mode="safe", recovery=False)
    fixed = ao.average_params(every=2)

    def step(carry, key):
        params, state, fixed_state = carry
        grads = params + jax.random.normal(key, (size,))
        updates, state = tx.update(grads, state, params, value=1.0)
        _, fixed_state = fixed.update(updates, fixed_state, params)
        return (optax.apply_updates(params, updates), state, fixed_state), None

    def run(key):
        params = jnp.zeros(size)
        carry = params, tx.init(params), fixed.init(params)
        carry, _ = jax.lax.scan(step, carry, jax.random.split(key, 10_000))
        params, *states = carry
        return [jnp.sum(ao.eval_params(state, params) ** 2) for state in states]

    ours, fixed_loss = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 32))
    assert ours.mean() < 1.7 * fixed_loss.mean()


def test_gradients_that_are_zero_tell_nothing():
    # What the last one told is not told again at every step.
    rng = np.random.default_rng(0)
    params = np.linspace(0, 50, 400, dtype=np.float32)[:, None] * np.ones(SIZE)
    params[:300] = 0.1 * rng.normal(size=(300, SIZE))
    grads = np.float32(rng.normal(size=(400, SIZE)))
    grads[300:310], grads[310:] = -1.0, 0.0
    flags = np.ones(400, bool), np.zeros(400, bool)
    _, state = follow(np.float32(params), grads, *flags)
    assert state.window_age[309] < state.window_age[299]
    np.testing.assert_allclose(np.diff(state.window_age[309:]).sum(), 45, atol=0.01)


@pytest.mark.parametrize("hold", [False, True])
def test_a_step_that_was_not_finite_tells_nothing(hold):
    # The gradient of a loss that is not may be finite itself.
    after = jax.tree.map(lambda x: x[-1], follow(*stream(0)))
    averages, state = averaging_horizon.absorb(
        after[1],
        after[0],
        jnp.ones(SIZE),
        jnp.ones(SIZE),
        healthy=jnp.asarray(not hold),
        reset=jnp.zeros((), bool),
        restored=jnp.zeros((), bool),
        hold=jnp.asarray(hold),
        law=Law(),
        fraction=1.0,
    )
    assert np.array_equal(state.lag_series, after[1].lag_series) == hold


@pytest.mark.parametrize("inner, rate", few([SGD, (optax.adagrad, 0.3)], [SGD]))
def test_a_moving_minimum_is_followed(inner, rate):
    last, ours, fixed = excess(inner, rate, noise=0.1, drift=2e-3)
    assert ours < 0.3 * fixed and ours < 2 * last


def test_a_small_count_never_says_that_nothing_was_absorbed():
    params = np.linspace(0, 50, 200, dtype=np.float32)[:, None] * np.ones(SIZE)
    grads = np.full((200, SIZE), -1.0, np.float32)
    flags = np.ones(200, bool), np.zeros(200, bool)
    averages, state = follow(np.float32(params), grads, *flags)
    assert (averages.average_count >= 1).all() and state.window_age[-1] < 11
    np.testing.assert_allclose(averages.average[-1], params[-1], atol=1.0)


def test_it_reaches_back_over_no_more_than_float32_resolves():
    window = averaging_horizon.init_window(jnp.zeros(SIZE), 1.0)
    window = window._replace(window_age=jnp.float32(averaging.LONGEST))
    averages = averaging.init_average(jnp.zeros(SIZE))
    averages = averages._replace(average_count=jnp.int32(averaging.LONGEST))
    no = jnp.zeros((), bool)
    for _ in range(2):
        averages, window = averaging_horizon.absorb(
            window,
            averages._replace(average_wait=jnp.int32(0)),
            jnp.ones(SIZE),
            jnp.zeros(SIZE),
            healthy=~no,
            reset=no,
            restored=no,
            hold=no,
            law=Law(),
            fraction=1.0,
        )
        assert window.window_age == averaging.LONGEST
