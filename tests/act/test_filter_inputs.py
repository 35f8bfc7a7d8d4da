"""The filters with other number types, complex gradients and bad arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax import filters
from tests.act.filtering import train


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
