"""Ports that average, or compare gradients: slow twins that follow the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.peers.alignment import gala
from benchmarks.peers.averaging import schedule_free_plus

CURVATURE = np.array([1.0, 0.3, 0.1])
START = np.array([2.0, -1.0, 3.0])


def bowl(x):
    """A loss that stays above 0, and its gradient."""
    return 0.5 * np.sum(CURVATURE * (x - 1) ** 2) + 0.01, CURVATURE * (x - 1)


def plus_twin(steps, factor, warm_up, decay, power, anneal, beta):
    """ScheduleFree+ as its author's code reads, with every sequence kept."""
    x, y, z = START.copy(), START.copy(), START.copy()
    m, v, norm = np.zeros(3), np.zeros(3), 0.0
    highest, weights, path = 1e-8, 0.0, []
    for t in range(1, steps + 1):
        f, g = bowl(y)
        done = min((t - 1) / anneal, 1) if anneal else 0
        b = 1 - (1 - 0.9) ** (1 - done) * (1 - 0.965) ** done
        norm = beta * norm + (1 - beta) * np.abs(g).sum() * np.sqrt(np.pi / 2)
        polyak = max(f + b * g @ (z - x), 0) / (norm / (1 - beta**t))
        rate = factor * min(t / max(warm_up, 1), 1) * polyak
        highest = max(highest, rate)
        c = 1.0
        if t > warm_up:
            weights += t**power * highest**2
            c = t**power * highest**2 / weights
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        z = z - rate**2 * decay * y - rate * step
        x = (1 - c) * x + c * z
        y = b * x + (1 - b) * z
        path.append((*x, *y, rate))
    return np.array(path)


@pytest.mark.parametrize(
    ("warm_up", "decay", "power", "anneal", "beta"),
    [(0, 0.0, 0, 0, 0.0), (5, 3.0, 2, 15, 0.6)],
)
def test_schedule_free_plus_agrees_with_a_slow_twin(
    warm_up, decay, power, anneal, beta
):
    tx = schedule_free_plus(
        0.3,
        warm_up=warm_up,
        weight_decay=decay,
        power=power,
        interpolation_steps=anneal,
        norm_decay=beta,
    )

    def body(carry, _):
        y, state = carry
        value = 0.5 * jnp.sum(CURVATURE * (y - 1) ** 2) + 0.01
        updates, state = tx.update(CURVATURE * (y - 1), state, y, value=value)
        y = y + updates
        rate = state.plus_rate[None]
        return (y, state), jnp.concatenate([state.average, y, rate])

    first = jnp.asarray(START, jnp.float32)
    _, path = jax.lax.scan(body, (first, tx.init(first)), length=30)
    expected = plus_twin(30, 0.3, warm_up, decay, power, anneal, beta)
    np.testing.assert_allclose(path, expected, rtol=2e-3, atol=2e-4)


def test_schedule_free_plus_stands_still_without_a_gradient():
    tx = schedule_free_plus()
    updates, _ = tx.update(jnp.zeros(3), tx.init(jnp.ones(3)), jnp.ones(3), value=1.0)
    np.testing.assert_array_equal(updates, 0)


def gala_twin(noise, rate):
    """GALA on SGD, both gradients from the batch that the next parameters see."""
    x, above, below, path = START.copy(), 0.0, 0.0, []
    for now, after in zip(noise[:-1], noise[1:], strict=True):
        d = CURVATURE * (x - 1) + now
        new = x - rate * d
        ahead, behind = CURVATURE * (new - 1) + after, CURVATURE * (x - 1) + after
        smoothness = np.linalg.norm(ahead - behind) / np.linalg.norm(new - x)
        above, below = above + ahead @ d, below + smoothness * d @ d
        path.append((*new, rate))
        x, rate = new, max(above / below, 0.0)
    return np.array(path)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_gala_agrees_with_a_slow_twin(spread):
    noise = spread * np.random.default_rng(0).normal(size=(31, 3))
    tx = gala(optax.sgd(1.0), 0.01)

    def body(carry, noise):
        x, state = carry

        def loss(x):
            return 0.5 * jnp.sum(CURVATURE * (x - 1) ** 2) + noise @ x

        # Without noise, the last gradient stands in for the one on the same batch.
        given = {"value_fn": loss} if spread else {}
        updates, state = tx.update(jax.grad(loss)(x), state, x, **given)
        x = x + updates
        return (x, state), jnp.concatenate([x, state.gala_rate[None]])

    first = jnp.asarray(START, jnp.float32)
    _, path = jax.lax.scan(
        body, (first, tx.init(first)), jnp.asarray(noise[:-1], jnp.float32)
    )
    expected = gala_twin(noise, 0.01)
    np.testing.assert_allclose(path, expected, rtol=2e-3, atol=2e-4)
    assert expected[-1, -1] > 0.1  # it has found a rate that is ten times as high
