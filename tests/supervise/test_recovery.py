"""Where the copy lies and what of it is kept."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from tests.supervise.driving import PARAMS, calm, feed, restores, updater

HOST = ao.Recovery(memory="pinned_host")
# Good steps, five bad batches, and the way back.
LOSSES = [*calm(81), *[1e4] * 5, 2.0, 2.0, *calm(3)]


@functools.cache
def one(recovery, average=False):
    tx = ao.adaptive_scheduler(
        optax.adam, 0.01, mode="safe", average=average, recovery=recovery
    )
    return tx, updater(tx)


def run(recovery, losses=LOSSES, params=PARAMS):
    tx, step = one(recovery)
    return feed(losses, params, step=step, tx=tx)


def kinds(tree):
    return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree)}


def on_device(tree):
    return jax.tree.map(np.asarray, tree)


def test_a_copy_on_the_host_changes_nothing_but_where_it_lies():
    here, there = run(True), run(HOST)
    assert restores(here[1]) == restores(there[1]) == 1
    chex.assert_trees_all_equal(*map(on_device, (here, there)))
    tx, _ = one(HOST)
    for state in (tx.init(PARAMS), jax.jit(tx.init)(PARAMS), there[1]):
        assert kinds(state.recovery.copy) == {"pinned_host"}
        rest = state._replace(recovery=state.recovery.remembered)
        assert kinds(rest) == {"device"}


def test_a_copy_on_the_host_goes_through_scan_and_a_mesh():
    tx, _ = one(HOST, average=True)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    params = {"w": jnp.linspace(-1.0, 1.0, 8), "b": jnp.ones(3)}
    places = {"w": NamedSharding(mesh, P("x")), "b": NamedSharding(mesh, P())}

    def step(carry, value):
        params, state = carry
        updates, state = tx.update(params, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    def whole(params, losses):
        return jax.lax.scan(step, (params, tx.init(params)), losses)[0]

    losses = jnp.asarray(LOSSES, jnp.float32)
    alone = jax.jit(whole)(params, losses)
    sharded = jax.device_put(params, places)
    out = places, ao.state_shardings(tx, sharded)
    spread = jax.jit(whole, out_shardings=out)(sharded, losses)
    copy = spread[1].recovery.copy
    assert kinds(copy) == {"pinned_host"} and restores(spread[1]) == 1
    assert copy.good_params["w"].sharding.spec == P("x")
    chex.assert_trees_all_close(*map(on_device, (alone, spread)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("placed", [False, True])
def test_a_step_that_donates_keeps_the_copy_on_the_host(placed):
    tx, _ = one(HOST)
    params = jax.tree.map(jnp.copy, PARAMS)
    give, out = (0, 1), None

    def step(params, state):
        updates, state = tx.update(params, state, params, value=1.0)
        return (updates if placed else optax.apply_updates(params, updates)), state

    if placed:  # by its shardings: any order, and the state alone
        mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
        params = jax.device_put(params, NamedSharding(mesh, P()))
        places = ao.state_shardings(tx, params)
        give, out = (1,), (NamedSharding(mesh, P()), places)
        state = jax.jit(tx.init, out_shardings=places)(params)
    else:
        state = tx.init(params)
    run = jax.jit(step, donate_argnums=give, out_shardings=out)
    for _ in range(3):
        after, state = run(params, state)
        params = params if placed else after
    assert kinds(state.recovery.copy) == {"pinned_host"}


def test_a_copy_on_the_host_is_refused_under_vmap():
    # JAX's own words: a condition would become a select over both memories.
    tx, _ = one(HOST)
    params = jax.tree.map(lambda p: jnp.stack([p, p]), PARAMS)
    with pytest.raises(ValueError, match="memory"):
        jax.vmap(lambda p: tx.update(p, tx.init(p), p, value=1.0))(params)


@pytest.mark.parametrize("jitted", [False, True])
def test_a_copy_on_the_host_is_refused_inside_multi_steps(jitted):
    tx = optax.MultiSteps(one(HOST)[0], 2)
    init = jax.jit(tx.init) if jitted else tx.init
    with pytest.raises(ValueError, match="pinned_host.*MultiSteps.*accumulation.md"):
        init(PARAMS)


def test_around_multi_steps_it_stays_on_the_host():
    inner = optax.MultiSteps(optax.sgd(0.01), 2)
    tx = ao.adaptive_scheduler(inner, average=False, recovery=HOST)
    state = tx.init(PARAMS)
    _, state = jax.jit(tx.update)(PARAMS, state, PARAMS, value=1.0)
    assert kinds(state.recovery.copy) == {"pinned_host"}


def test_a_copy_that_was_read_back_to_the_device_goes_to_the_host_again():
    tx, step = one(HOST)
    params, state = feed(calm(3), step=step, tx=tx)
    state = jax.tree.map(jnp.asarray, on_device(state))
    assert kinds(state) == {"device"}
    _, state = step(params, state, 2.0)
    assert kinds(state.recovery.copy) == {"pinned_host"}


def test_without_the_inner_state_a_restore_makes_a_fresh_one():
    recovery = ao.Recovery(inner=False)
    tx, step = one(recovery)
    params, state = run(recovery, LOSSES[:86])
    assert state.recovery.copy.good_inner == () and restores(state) == 1
    good = state.recovery.copy.good_params
    params, state = step(params, state, 2.0)  # the way back
    params, state = step(params, state, 2.0)  # and the first step from there
    fresh = optax.adam(0.01).init(good)
    first = optax.adam(0.01).update(jax.tree.map(jnp.ones_like, good), fresh, good)
    chex.assert_trees_all_close(
        (params, optax.tree.get(state, "count"), optax.tree.get(state, "mu")),
        (
            optax.apply_updates(good, first[0]),
            jnp.int32(1),
            optax.tree.get(first[1], "mu"),
        ),
        rtol=1e-6,
    )


def test_in_the_audit_a_fresh_state_is_the_one_that_was_kept():
    losses = [2.0, 2.1, 1e4, 1e4, 1e4, 2.0, 2.0]
    whole, part = run(True, losses), run(ao.Recovery(inner=False), losses)
    assert restores(whole[1]) == restores(part[1]) == 1
    chex.assert_trees_all_equal(whole[0], part[0])


BYTES = {
    ao.Recovery(): (12, 0),
    ao.Recovery(dtype=jnp.bfloat16): (6, 0),
    ao.Recovery(inner=False): (4, 0),
    ao.Recovery(dtype=jnp.bfloat16, inner=False): (2, 0),
    HOST: (0, 12),
    ao.Recovery(jnp.bfloat16, False, "pinned_host"): (0, 2),
}


@pytest.mark.parametrize("recovery", BYTES, ids=str)
def test_bytes_are_what_the_docstring_says(recovery):
    tx, params = one(recovery)[0], {"w": jnp.ones((256, 512))}
    cost, copy = ao.state_bytes(tx, params), tx.init(params).recovery.copy
    device, host = BYTES[recovery]
    assert (cost["copy"] // 2**17, cost["host"] // 2**17) == (device, host)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(copy)) == (
        cost["copy"] + cost["host"]
    )


def test_everything_on_costs_less_than_six_bytes_beside_adam():
    params = {"w": jax.ShapeDtypeStruct((4096, 4096), jnp.float32)}
    cost = ao.state_bytes(one(HOST, average=True)[0], params)
    assert (cost["total"] - cost["inner"]) / 4096**2 < 4.3


def test_types_stay_the_same_with_every_setting():
    for recovery in BYTES:
        tx, _ = one(recovery)
        state = jax.eval_shape(tx.init, PARAMS)
        after = jax.eval_shape(
            lambda s, p, tx=tx: tx.update(p, s, p, value=1.0)[1], state, PARAMS
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
