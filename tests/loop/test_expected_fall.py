"""The aim E[change of the loss] < 0 on a noisy quadratic, where it has a closed form.

With l = 1/2 theta' H theta, g = H theta + s noise and theta <- theta - alpha g,

    E[change | theta, alpha] = -alpha |H theta|^2
                               + alpha^2 / 2 (theta' H^3 theta + s^2 tr H),

which is negative below twice the rate that falls fastest. About a minimum it cannot be
negative: at the stationary loss, 1/2 sum alpha s^2 / (2 - alpha h), it is 0 on average.
A step is *unsettled* where the loss is more than twice that.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao

STEPS, SEEDS = 600, 8
CURVATURES = np.logspace(-2, 0, 32).astype(np.float32)
RATES = np.asarray([0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0], np.float32)
NOISES = 0.05, 0.5


def expected_change(theta, alpha, noise):
    """The closed form of the expected change of the loss."""
    g = CURVATURES * theta
    curved = jnp.sum(CURVATURES * g * g) + noise**2 * CURVATURES.sum()
    return -alpha * jnp.sum(g * g) + alpha**2 / 2 * curved


def stationary(alpha, noise):
    """The loss at which a rate holds the parameters about the minimum."""
    return 0.5 * jnp.sum(alpha * noise**2 / (2 - jnp.minimum(alpha * CURVATURES, 1.99)))


def trained(noise, rate, seed):
    """One run: loss, its expected change, the stationary one; is it a step of SGD's?"""
    tx = ao.adaptive_scheduler(optax.sgd, rate, average=False)
    first, rest = jax.random.split(jax.random.key(seed))
    theta = jax.random.normal(first, CURVATURES.shape)

    def step(carry, t):
        theta, state = carry
        error = noise * jax.random.normal(jax.random.fold_in(rest, t), theta.shape)
        grads = CURVATURES * theta + error
        loss = 0.5 * jnp.sum(CURVATURES * theta**2)
        value = loss + jnp.sum(theta * error)
        updates, state = tx.update(grads, state, theta, value=value)
        alpha = state.learning_rate
        steps = jnp.abs(updates + alpha * grads).max() < 1e-6  # and no way back
        change = expected_change(theta, alpha, noise)
        told = loss, change, stationary(alpha, noise), steps
        return (optax.apply_updates(theta, updates), state), told

    return jax.lax.scan(step, (theta, tx.init(theta)), jnp.arange(STEPS))[1]


@functools.cache
def runs(noise):
    """All rates and seeds of a noise, [rates, seeds, steps] each."""
    every = jax.vmap(functools.partial(trained, noise), (None, 0))
    program = jax.jit(jax.vmap(every, (0, None)))
    return [np.asarray(x) for x in program(RATES, jnp.arange(SEEDS))]


@pytest.mark.parametrize("noise", NOISES)
def test_the_closed_form_is_the_mean_of_many_steps(noise):
    theta, alpha = jax.random.normal(jax.random.key(1), (32,)), 0.7
    errors = noise * jax.random.normal(jax.random.key(2), (200_000, 32))

    def loss(x):
        return 0.5 * jnp.sum(CURVATURES * x**2, axis=-1)

    changes = loss(theta - alpha * (CURVATURES * theta + errors)) - loss(theta)
    error = float(changes.std()) / len(errors) ** 0.5
    form = expected_change(theta, alpha, noise)
    np.testing.assert_allclose(form, changes.mean(), atol=4 * error)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("base", range(len(RATES)), ids=[f"{r:g}" for r in RATES])
def test_the_loss_is_expected_to_fall_while_it_is_not_settled(noise, base):
    loss, change, still, steps = (x[base] for x in runs(noise))
    unsettled = steps & (loss > 2 * still)
    assert unsettled.sum() > SEEDS  # the law is asked something
    assert (change[unsettled] < 0).mean() > 0.65


@pytest.mark.parametrize("noise", NOISES)
def test_a_settled_loss_keeps_falling(noise):
    loss, *_ = runs(noise)
    early, late = loss[..., 200:300].mean(-1), loss[..., -100:].mean(-1)
    assert np.median(late / early) < 0.9
    assert late.max() < loss[..., 0].mean() / 5
