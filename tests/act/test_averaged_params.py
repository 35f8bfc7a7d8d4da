"""The average is found wherever its state lies, and given back as parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from adaptive_optax.act.average import absorb, average_params, eval_params, init_average
from tests.act.averaging import AVERAGE, PARAMS, average_of

WRAPPERS = {
    "chain": lambda tx: tx,
    "nested chain": lambda tx: optax.chain(optax.chain(tx), optax.identity()),
    "named_chain": lambda tx: optax.named_chain(("inner", tx)),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "inject": lambda tx: optax.inject_hyperparams(lambda lr: tx)(lr=1.0),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_found_anywhere_in_a_state(name):
    tx = WRAPPERS[name](optax.chain(optax.sgd(0.1), AVERAGE))
    averaged, _ = average_of(tx)
    # Parameters of steps 0 to 4, each before its update: 1, .9, .8, .7, .6.
    np.testing.assert_allclose(averaged["w"], 0.8, rtol=1e-6)
    np.testing.assert_allclose(averaged["b"], -0.2, rtol=1e-6)


def test_masked_leaves_come_from_the_parameters():
    masked = optax.masked(AVERAGE, {"w": True, "b": False})
    averaged, params = average_of(optax.chain(optax.sgd(0.1), masked))
    np.testing.assert_allclose(averaged["w"], 0.8, rtol=1e-6)
    np.testing.assert_array_equal(averaged["b"], params["b"])


def test_partition_brings_its_averages_together():
    fast, slow = (optax.chain(optax.sgd(rate), AVERAGE) for rate in (0.1, 0.01))
    tx = optax.partition({"fast": fast, "slow": slow}, {"w": "fast", "b": "slow"})
    averaged, _ = average_of(tx)
    np.testing.assert_allclose(averaged["w"], 0.8, rtol=1e-6)
    np.testing.assert_allclose(averaged["b"], -0.02, rtol=1e-5)


def test_nnx_optimizer():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    start = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    tx = optax.chain(optax.sgd(0.1), AVERAGE)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for _ in range(5):
        optimizer.update(model, jax.tree.map(jnp.ones_like, start))
    averaged = eval_params(optimizer.opt_state, nnx.state(model, nnx.Param))
    assert jax.tree.structure(averaged) == jax.tree.structure(start)
    for mean, first in zip(
        jax.tree.leaves(averaged), jax.tree.leaves(start), strict=True
    ):
        np.testing.assert_allclose(mean, first - 0.2, rtol=1e-5)
    nnx.update(model, averaged)


def test_before_the_first_the_parameters_themselves():
    tx = optax.chain(optax.sgd(0.1), AVERAGE)
    out = jax.jit(lambda p: eval_params(tx.init(p), p))(PARAMS)
    jax.tree.map(np.testing.assert_array_equal, out, PARAMS)


def test_integer_and_missing_leaves():
    params = {"w": jnp.ones(2), "steps": jnp.int32(7), "none": None}
    state = absorb(init_average(params), params)
    later = {"w": jnp.zeros(2), "steps": jnp.int32(9), "none": None}
    out = eval_params(state, later)
    assert out["steps"] == 9 and out["none"] is None
    np.testing.assert_array_equal(out["w"], 1.0)


def test_the_state_does_not_alias_the_parameters():
    tx = optax.chain(optax.sgd(0.1), average_params(every=1))
    step = jax.jit(
        lambda p, s: tx.update(jax.tree.map(jnp.ones_like, p), s, p), donate_argnums=1
    )
    params = jax.tree.map(jnp.copy, PARAMS)
    _, state = step(params, tx.init(params))
    step(params, state)
    np.testing.assert_array_equal(params["w"], 1.0)
