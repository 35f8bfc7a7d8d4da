"""Ports that follow the loss: slow twins that follow the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.peers.loss_driven import greedy_lr
from benchmarks.peers.loss_slope import ada_lrs, velocity_of


def greedy_twin(values, rate, patience, window, reset_after, factor=0.95):
    """GreedyLR as its authors' code reads, one rate after each value."""
    first, low, best = rate, rate / 20, np.inf
    good = bad = 0
    left, recent, rates = reset_after, [], []
    for value in values:
        recent = [*recent, value][-window:]
        mean = sum(recent) / len(recent)
        if mean < best - 1e-6:
            best, good, bad = mean, good + 1, 0
        else:
            good, bad = 0, bad + 1
        if good > patience:
            rate = max(rate, min(rate / factor, 1.0))
            good, left = 0, reset_after
        elif bad > patience:
            rate, bad = max(rate * factor, low), 0
            if rate == low:
                left -= 1
                if left <= 0:
                    rate, best, good, bad = first, np.inf, 0, 0
                    left, recent = reset_after, []
        rates.append(rate)
    return rates


@pytest.mark.parametrize("seed", range(3))
def test_greedy_lr_agrees_with_a_slow_twin(seed):
    noise = np.random.default_rng(seed).normal(size=600) * [0.02, 0.2, 1.0][seed]
    values = 1e3 * np.exp(-np.arange(600) / 20) + 5 + noise  # falls, then only noise
    options = {"patience": 1, "window": 4, "reset_after": 3}
    tx = greedy_lr(0.7, **options)

    def step(state, value):
        updates, state = tx.update(jnp.ones(()), state, value=value)
        return state, (updates, state.greedy_rate)

    init = tx.init(jnp.ones(()))
    _, (scale, rates) = jax.lax.scan(step, init, jnp.asarray(values, jnp.float32))
    expected = greedy_twin(values, 0.7, **options)
    np.testing.assert_allclose(rates, expected, rtol=2e-5)
    np.testing.assert_allclose(scale, rates / 0.7, rtol=1e-6)
    assert max(expected) > 0.9 and min(expected) == pytest.approx(0.035)
    assert 0.7 in expected[300:]  # the fresh start was reached


def test_the_velocity_is_a_least_squares_slope():
    losses = np.array([3.0, 2.5, 2.7, 1.0, 0.2])
    (slope, _), covariance = np.polyfit(np.arange(5), losses, 1, cov=True)
    velocity, error = velocity_of(jnp.asarray(losses))
    assert velocity == pytest.approx(-slope, rel=1e-5)
    assert error == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-5)


def ada_twin(values, grads, size, begins, ends):
    """AdaLRS around momentum at rate .1: scales, parameters, and what happened."""
    x, momentum, scale, n, window = np.zeros(2), np.zeros(2), 1.0, 0, []
    trial, saved, last, rises, highest = False, None, None, 0, -np.inf
    path, seen = [], []
    for t, (value, g) in enumerate(zip(values, grads, strict=True), 1):
        up, down = max(3 * 0.99**n, 1), 1 / max(2 * 0.99**n, 1)
        window.append(value)
        back = event = None
        full = len(window) == size
        if full:
            (slope, _), covariance = np.polyfit(np.arange(size), window, 1, cov=True)
            found = (-slope, np.sqrt(covariance[0, 0]), np.mean(window))
        if trial and value > highest:
            event = "wrecked"
        elif trial and full:
            margin = found[1] + last[1]
            ahead = found[0] - last[0]
            event = "undecided" if abs(ahead) < margin else "kept"
            event = "failed" if ahead < -margin else event
        elif full:
            rises = rises + 1 if last and found[2] > last[2] else 0
            if begins < t <= ends and rises >= 2:
                event = "lowered"
            elif begins < t and t + size <= ends and found[0] < (last or (0,))[0]:
                event, saved = "begun", (x, momentum)
        if event == "kept":
            scale *= up
        if event in ("wrecked", "failed", "lowered"):
            scale, rises = scale * down, 0
        if event in ("wrecked", "failed"):
            back = saved
        if event != "wrecked":
            highest = max(highest, value)
        if event == "kept" or (full and not trial):
            last = found
        trial = event == "begun" or (trial and event is None)
        if event not in (None, "begun"):
            n += 1
        if full or event == "wrecked":
            window = []
        acting = scale * (up if trial else 1)
        momentum = 0.9 * momentum + g
        x = x - 0.1 * acting * momentum
        if back:
            x, momentum = back
        path.append((acting, *x))
        seen.append(event)
    return np.array(path), set(seen)


def test_adalrs_agrees_with_a_slow_twin():
    rng, steps, size = np.random.default_rng(3), 1500, 5
    # Falls and rises by turns, now and then beyond anything before.
    walk = np.cumsum(rng.normal(size=steps // 30).repeat(30) * 0.2)
    values = walk + 0.3 * rng.normal(size=steps) + 8 * (rng.uniform(size=steps) < 0.004)
    grads = rng.normal(size=(steps, 2))
    base = optax.sgd(0.1, momentum=0.9)
    tx = ada_lrs(base, steps, window=size, search=(0.01, 0.9))

    def body(carry, inputs):
        x, state = carry
        value, g = inputs
        updates, state = tx.update(g, state, x, value=value)
        x = x + updates
        return (x, state), jnp.concatenate([state.acting_scale[None], x])

    first = jnp.zeros(2)
    inputs = (jnp.asarray(values, jnp.float32), jnp.asarray(grads, jnp.float32))
    _, path = jax.lax.scan(body, (first, tx.init(first)), inputs)
    expected, seen = ada_twin(values, grads, size, 15, 1350)
    np.testing.assert_allclose(path, expected, rtol=2e-3, atol=2e-3)
    assert seen - {None} == {
        *("begun", "kept", "failed", "undecided", "wrecked", "lowered"),
    }
