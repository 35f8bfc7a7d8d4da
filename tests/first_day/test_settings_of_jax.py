"""What users switch on in JAX: strict promotion, its checks, no jit, manual axes."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

import adaptive_optax as ao
from tests.contract.driving import QUICK
from tests.helpers import few

LEAN = {"average": False, "recovery": False}
MAKERS = {
    "default": lambda: ao.adaptive_scheduler(optax.sgd, 0.1),
    "everything": lambda: ao.adaptive_sgd(
        0.1,
        momentum_rule=ao.rules.alignment(),
        sigma=1e-3,
        freeze_threshold=1e-3,
        total_steps=100,
    ),
    "scale_by_rule": lambda: optax.chain(
        optax.sgd(0.1), ao.scale_by_rule(ao.rules.trend()), ao.average_params()
    ),
    "add_dither": lambda: optax.chain(
        optax.sgd(0.1),
        ao.add_dither(1e-3),
        ao.add_dither(1e-3, distribution="rademacher"),
    ),
    "filters.adamw": lambda: optax.with_extra_args_support(ao.filters.adamw(0.1)),
}


def run(tx, params, steps=2):
    @functools.partial(jax.jit, compiler_options=QUICK)
    def step(params, state):
        grads = jax.tree.map(lambda p: p, params)
        updates, state = tx.update(grads, state, params, value=jnp.float32(1.0))
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", MAKERS)
def test_strict_promotion(name, dtype):
    with jax.numpy_dtype_promotion("strict"):
        params, state = run(MAKERS[name](), {"w": jnp.ones(3, dtype)})
        if name in ("default", "everything"):
            ao.snapshot(state)
            ao.eval_params(state, params)
    assert params["w"].dtype == dtype


@pytest.mark.parametrize("name", few(MAKERS, ["default", "scale_by_rule"]))
def test_without_jit(name):
    with jax.disable_jit():
        params, _ = run(MAKERS[name](), {"w": jnp.ones(3)})
    assert (params["w"] < 1).all()


@pytest.mark.parametrize("name", few(MAKERS, ["default", "scale_by_rule"]))
def test_jax_checks_its_own_invariants(name):
    with jax.enable_checks(True), jax.numpy_rank_promotion("raise"):
        run(MAKERS[name](), {"w": jnp.ones(3)})


def test_parameters_of_their_own_on_each_device():
    # A learner a device inside `jax.shard_map`: parameters and state vary over it.
    kind = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((1,), ("d",), axis_types=kind)
    tx = ao.adaptive_adam(0.1)

    def body(params, state):
        params, state = jax.tree.map(lambda x: x[0], (params, state))
        updates, state = tx.update(2 * params, state, params, value=jnp.sum(params**2))
        moved = optax.apply_updates(params, updates), state
        return jax.tree.map(lambda x: x[None], moved)

    spec = jax.sharding.PartitionSpec("d")
    params = jnp.ones((1, 3))
    step = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec)
    moved, _ = jax.jit(step)(params, jax.vmap(tx.init)(params))
    assert (moved < params).all()
