"""The prior art of a moving momentum: YellowFin, AdEMAMix, a b1 that warms up."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from benchmarks.gains import prior, train, work
from benchmarks.gains.yellowfin import SLOW_START, WINDOW, single_step, yellowfin


@pytest.mark.parametrize("p", np.logspace(-6, 6, 7))
def test_the_single_step_solves_its_cubic(p):
    h_min, distance = 0.3, 2.0
    variance = (distance * h_min) ** 2 / (2 * p)
    mu, alpha = single_step(h_min, h_min, variance, distance)
    x = np.sqrt(np.float64(mu))
    assert p * x == pytest.approx((1 - x) ** 3, rel=1e-2)
    assert alpha == pytest.approx((1 - x) ** 2 / h_min, rel=1e-2)

    def expected(x):
        return x**2 * distance**2 + ((1 - x) ** 2 / h_min) ** 2 * variance

    others = expected(np.linspace(0, 1, 2001))
    assert expected(x) <= others.min() * (1 + 1e-6)


@pytest.mark.parametrize("condition", [1.0, 9.0, 100.0, 1e4])
def test_without_noise_the_single_step_is_polyaks(condition):
    h_min = 0.2
    mu, alpha = single_step(condition * h_min, h_min, 0.0, 1.0)
    root = np.sqrt(condition)
    assert mu == pytest.approx(((root - 1) / (root + 1)) ** 2, abs=1e-5)
    optimum = 4 / (np.sqrt(condition * h_min) + np.sqrt(h_min)) ** 2
    assert alpha == pytest.approx(optimum, rel=1e-4)


def learnt(curvatures, noise, steps=400, size=400):
    """YellowFin's momentum on quadratics whose known curvatures take turns.

    The parameters lie where the square of a gradient is the curvature, as it is at the
    minimum of a log likelihood: only there does YellowFin measure what it means to.
    ``noise`` 1 draws the gradient's direction, 0 holds it.
    """
    tx = yellowfin()
    h = jnp.asarray(curvatures, jnp.float32)

    def step(state, t):
        drawn = jax.random.normal(jax.random.fold_in(jax.random.key(0), t), (size,))
        direction = (drawn if noise else jnp.ones(size)) / jnp.sqrt(size)
        _, state = tx.update(h[t % len(h)] ** 0.5 * direction, state)
        return state, state.yellowfin_momentum

    return float(jax.lax.scan(step, tx.init(jnp.zeros(size)), jnp.arange(steps))[1][-1])


@pytest.mark.parametrize("condition", [2.0, 4.0, 8.0])
def test_it_learns_the_best_momentum_of_known_curvatures(condition):
    root = np.sqrt(condition)
    best = ((root - 1) / (root + 1)) ** 2
    found = learnt([condition] * 19 + [1.0], noise=0)
    assert found == pytest.approx(best, abs=0.03)


@pytest.mark.parametrize("condition", [4.0, 100.0])
def test_noise_asks_for_more_momentum_than_the_curvatures(condition):
    square, norm = (1 + condition) / 2, (1 + np.sqrt(condition)) / 2
    p = (norm / square) ** 2 / (2 * square)
    x = next(r.real for r in np.roots([1, -3, 3 + p, -1]) if abs(r.imag) < 1e-6)
    root = np.sqrt(condition)
    assert x > (root - 1) / (root + 1)
    found = learnt([1.0, condition], noise=1)
    assert found == pytest.approx(x**2, abs=0.03)


def twin(gradients, factor, beta):
    """YellowFin with every sequence kept, in float64."""

    def mean(values):
        weights = beta ** np.arange(len(values))[::-1]
        return np.tensordot(weights, np.asarray(values), 1) / weights.sum()

    tops, bottoms, seen, norms, away = [], [], [], [], []
    velocity, path = np.zeros_like(gradients[0]), []
    for t, g in enumerate(gradients):
        limit = np.exp(mean(tops) / 2) if t else np.inf
        g = g * min(1.0, 10 * limit / np.linalg.norm(g))
        seen.append(g)
        norms.append(np.linalg.norm(g))
        window = np.square(norms[-WINDOW:])
        tops.append(np.log(window.max()))
        bottoms.append(np.log(window.min()))
        # The ratio of two means before debiasing is that of the means themselves.
        away.append(mean(norms) / mean(np.square(norms)))
        h_max, h_min = np.exp(mean(tops)), np.exp(mean(bottoms))
        variance = mean(np.square(norms)) - np.sum(mean(seen) ** 2)
        p = (mean(away) * h_min) ** 2 / (2 * max(variance, 1e-12))
        x = next(
            r.real
            for r in np.roots([1, -3, 3 + p, -1])
            if abs(r.imag) < 1e-6 and -1e-9 <= r.real <= 1
        )
        root = np.sqrt(h_max / h_min)
        x = max(x, (root - 1) / (root + 1))
        rate = factor * min(1, (t + 1) / SLOW_START) * (1 - x) ** 2 / h_min
        taken = g * min(1.0, limit / np.linalg.norm(g))
        velocity = x**2 * velocity - rate * taken
        path.append(velocity)
    return np.stack(path), x**2, rate


@pytest.mark.parametrize("beta", [0.999, 0.99])
def test_yellowfin_follows_a_slow_twin(beta):
    rng = np.random.default_rng(0)
    gradients = np.exp(rng.normal(size=(60, 1))) * (1 + rng.normal(size=(60, 5)))
    gradients[40] *= 1e3  # an explosion
    tx = yellowfin(0.5, beta)
    state, path = tx.init(jnp.zeros(5)), []
    update = jax.jit(tx.update)
    for g in gradients:
        updates, state = update(jnp.asarray(g, jnp.float32), state)
        path.append(np.asarray(updates))
    expected, mu, rate = twin(gradients, 0.5, beta)
    np.testing.assert_allclose(np.stack(path), expected, rtol=5e-3, atol=1e-5)
    assert state.yellowfin_momentum == pytest.approx(mu, rel=1e-3)
    assert state.yellowfin_rate == pytest.approx(rate, rel=5e-3)


@pytest.mark.parametrize("start", [0.0, 0.5, 0.9])
def test_a_memory_grows_linearly_from_its_start_to_its_end(start):
    decay = prior.warmed(start, 0.99, 100)
    at = [float(decay(jnp.asarray(t))) for t in (0, 25, 50, 100, 500)]
    assert at[0] == pytest.approx(start, abs=1e-6)
    assert at[3] == at[4] == pytest.approx(0.99)
    first = -1 / np.log(start) if start else 0.0
    half = (first - 1 / np.log(0.99)) / 2
    assert -1 / np.log(at[2]) == pytest.approx(half, rel=1e-4)
    if start:  # the paper's equation of b3
        logs = np.log(start), np.log(0.99)
        paper = np.exp(logs[0] * logs[1] / (0.75 * logs[1] + 0.25 * logs[0]))
        assert at[1] == pytest.approx(paper, rel=1e-5)


def test_ademamix_begins_as_adam_and_ends_with_both_memories():
    tx, steps = prior.ademamix(0.1, 0.9, b3=0.999, horizon=50), 50
    state, slow, g = tx.init(jnp.zeros(())), 0.0, jnp.ones(())
    decay = prior.warmed(0.9, 0.999, steps)
    update = jax.jit(tx.update)
    for t in range(steps + 1):
        updates, state = update(g, state, g)
        b3 = float(decay(jnp.asarray(t)))
        slow = b3 * slow + (1 - b3)
        mixed = 1 + prior.ALPHA * t / steps * slow
        assert float(updates) == pytest.approx(-0.1 * mixed, rel=1e-4)


def given(momentum, horizon=40):
    return prior.Given(jnp.asarray(0.1), jnp.ones(()), jnp.asarray(momentum), horizon)


def test_in_the_loop_it_has_the_rate_and_the_b1_of_adam():
    g = jnp.array([1.0, -2.0, 0.5])
    adam = ao.adaptive_adam(0.1 * prior.SIXTH, 0.5)
    of_mix = prior.in_the_loop(given(0.5), prior.SHORTER, prior.SIXTH)
    states = [tx.init(g) for tx in (adam, of_mix)]
    assert ao.snapshot(states[1])["momentum"] == pytest.approx(0.5)
    first = [
        jax.jit(tx.update)(g, state, g, value=jnp.ones(()))[0]
        for tx, state in zip((adam, of_mix), states, strict=True)
    ]
    np.testing.assert_allclose(first[1], first[0], rtol=1e-5)


def test_a_b1_that_has_nowhere_to_rise_is_adams():
    g = jnp.array([1.0, -2.0, 0.5])

    def path(tx):
        state, updates = tx.init(g), []
        for t in range(40):
            step, state = tx.update(g * jnp.cos(0.3 * t), state, g)
            updates.append(step)
        return np.stack(updates)

    same = path(prior.adam_warmed(given(0.99)))
    np.testing.assert_allclose(same, path(optax.adam(0.1, 0.99)), rtol=1e-3, atol=1e-6)
    rises = path(prior.adam_warmed(given(0.5)))
    np.testing.assert_allclose(rises[0], path(optax.adam(0.1, 0.5))[0], rtol=1e-5)
    assert np.abs(rises[-1] - path(optax.adam(0.1, 0.5))[-1]).max() > 0.005


def test_a_run_without_the_loop_counts_its_better_parameters():
    one = work.bowl(10.0, 60)
    ends = train.finals(one, "sgd", prior.CONSTANT_SGD, momenta=(0.0, 0.9), seeds=2)
    start, _ = jax.random.split(jax.random.key(1))
    x, velocity = np.asarray(one.init(start), np.float64), 0.0
    h = np.logspace(0, -1, 40)
    for _ in range(60):
        velocity = 0.9 * velocity + h * x
        x = x - 10**0.5 * one.sgd * velocity
    last = max(0.5 * np.sum(h * x * x), one.floor)
    assert ends[1, 1] <= last * 1.01
    own = train.finals(
        one, "sgd", prior.YELLOWFIN["YellowFin"], momenta=(0.0, 0.9), seeds=2
    )
    np.testing.assert_array_equal(own[0], own[1])
