"""``"auto"``: the loop moves the momentum and the noise by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao

NEAR_A_SADDLE = jnp.asarray(np.random.default_rng(0).normal(size=16) * 1e-6)
CURVATURES = jnp.asarray(np.logspace(0, -4, 16), jnp.float32)


@functools.cache
def trained(loss, steps, **options):
    """The last loss, and the loop's values at every step."""
    params = jnp.ones(16)
    tx = ao.adaptive_sgd(0.1, **options)

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
        return (params, state), ao.snapshot(state)

    start = {valley: params, saddle: jnp.zeros(16)}.get(loss, NEAR_A_SADDLE)
    (params, _), seen = jax.jit(
        lambda: jax.lax.scan(step, (start, tx.init(start)), None, length=steps)
    )()
    return float(loss(params)), jax.device_get(seen)


def valley(x):
    return 0.5 * jnp.sum(CURVATURES * x**2)


def saddle(x):
    """A product of two vectors that start at zero, where the gradient is zero."""
    a, b = x[:8], x[8:]
    return jnp.mean((a[:, None] * b[None] - jnp.eye(8)[0]) ** 2)


def test_a_long_valley_ends_lower_and_the_horizon_grows():
    held, _ = trained(valley, 600)
    low, seen = trained(valley, 600, momentum_rule="auto")
    assert low < held / 2
    assert seen["momentum"].max() > 0.95
    assert seen["momentum"].min() == np.float32(0.9)
    assert seen["momentum_restarts"][-1] > 0


def test_a_saddle_is_left_in_one_kick():
    stuck, _ = trained(saddle, 400)
    low, seen = trained(saddle, 400, sigma_rule="auto")
    assert stuck == float(saddle(jnp.zeros(16)))
    assert low < stuck / 2
    assert 1 <= np.count_nonzero(seen["sigma"]) <= 3
    assert seen["sigma"].max() == np.float32(1e-2)


def flat(x):
    """The same saddle from beside it, so slow that only a kick leads away."""
    return 1e-3 * saddle(x)


def test_a_kick_is_not_taken_for_bad_data():
    """It makes gradients a hundred times as large, and was taken back for that."""
    _, seen = trained(flat, 90, sigma_rule="auto")
    kicks = np.flatnonzero(seen["sigma"])
    assert len(kicks) == 1
    norms = seen["grad_norm"]
    assert norms[kicks[0] + 1] > 20 * norms[kicks[0]] > 0
    assert seen["skipped"][-1] == 0 and seen["restores"][-1] == 0


def test_sigma_is_the_size_of_a_kick():
    tx = ao.adaptive_sgd(0.1, sigma_rule="auto", sigma=1e-3)
    assert tx.init(jnp.ones(2)).sigma == 0


def test_without_feedback_nothing_moves():
    auto = ao.adaptive_adam(0.1, momentum_rule="auto", sigma_rule="auto", average=False)
    plain, params = ao.filters.adam(jnp.float32(0.1), jnp.float32(0.9)), jnp.ones(3)
    state, other = auto.init(params), plain.init(params)
    for _ in range(3):
        updates, state = auto.update(params, state, params)
        expected, other = plain.update(params, other, params)
        np.testing.assert_array_equal(updates, expected)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"momentum_rule": "automatic"}, ValueError, "must be a Rule or .auto."),
        ({"sigma_rule": "kick"}, ValueError, "must be a Rule or .auto., got 'kick'"),
        ({"rule": "auto"}, TypeError, "`rule` must be a Rule, got 'auto'"),
        (
            {"momentum_rule": "auto", "momentum_coordinate": "linear"},
            ValueError,
            "moves the horizon, got momentum_coordinate='linear'",
        ),
    ],
)
def test_a_name_that_is_none(options, error, message):
    with pytest.raises(error, match=message):
        ao.adaptive_sgd(0.1, **options)
