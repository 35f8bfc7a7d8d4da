"""Bytes are known before anything is allocated, and they are the ones allocated."""

import jax
import jax.numpy as jnp
import optax
import pytest

import adaptive_optax as ao
from tests.scale.test_shardings import MESHES, everything, some_params, where

CONFIGURATIONS = {
    "default": lambda: ao.adaptive_adamw(1e-3),
    "everything": everything,
    "the law alone": lambda: ao.adaptive_adamw(1e-3, average=False, recovery=False),
    "sgd without memory": lambda: ao.adaptive_scheduler(optax.sgd, 0.1),
    "built, freezing": lambda: ao.adaptive_scheduler(
        optax.adam(1e-3), freeze_threshold=1e-3
    ),
    "a key in the state": lambda: ao.adaptive_scheduler(
        optax.noisy_sgd(1e-3, eta=0.1, key=jax.random.key(0))
    ),
    "chain of parts": lambda: optax.chain(
        optax.adam(1e-3), ao.average_params(), ao.freeze_by_grad_norm(0.1)
    ),
    "partition": lambda: optax.partition(
        {"a": ao.adaptive_adamw(1e-3), "b": optax.sgd(0.1)},
        {"rows": "a", "columns": "b", "bias": "a"},
    ),
    "plain optax": lambda: optax.adam(1e-3),
}


def allocated(tree):
    """Bytes of the shards on the first device, read from the arrays themselves."""
    first = jax.devices()[0]
    shards = [
        shard.data
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.device == first
    ]
    return sum(
        jax.random.key_data(x).nbytes
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        else x.nbytes
        for x in shards
    )


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_total_is_what_is_allocated(name):
    tx, params = CONFIGURATIONS[name](), some_params()
    cost = ao.state_bytes(tx, params)
    assert cost["total"] == allocated(tx.init(params))
    parts = {key: size for key, size in cost.items() if key not in ("total", "host")}
    assert sum(parts.values()) == cost["total"]
    assert cost["host"] == 0


@pytest.mark.parametrize("kind", MESHES)
def test_with_shardings_it_is_what_one_device_holds(kind):
    tx, params = everything(), jax.device_put(some_params(), where(kind))
    shardings = ao.state_shardings(tx, params)
    state = jax.jit(tx.init, out_shardings=shardings)(params)
    assert ao.state_bytes(tx, params, where(kind))["total"] == allocated(state)


def test_each_part_is_what_its_field_holds():
    tx, params = CONFIGURATIONS["built, freezing"](), some_params()
    cost, state = ao.state_bytes(tx, params), tx.init(params)
    assert cost["inner"] == allocated(state.inner_state)
    assert cost["average"] == allocated((state.averaging, state.window))
    assert cost["copy"] == allocated(state.recovery.copy)
    assert cost["freezing"] == allocated(state.freezing) > 0
    assert cost["sketch"] == allocated(state.sensor.motion)


def test_the_law_costs_less_than_three_kilobytes():
    assert ao.state_bytes(everything(), some_params())["law"] < 3000


def test_a_model_that_no_machine_could_hold_is_counted():
    params = {"w": jax.ShapeDtypeStruct((2**19, 2**20), jnp.bfloat16)}
    cost = ao.state_bytes(ao.adaptive_adamw(1e-3), params)
    assert cost["average"] - 28 == (4 + 4 / 64) * 2**39
    assert cost["inner"] // 2**39 == 8
