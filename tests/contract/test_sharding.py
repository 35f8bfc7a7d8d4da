"""On a mesh: types keep their sharding, numbers stay, parameters are never gathered."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from tests.contract.optimizers import OPTIMIZERS, entries, wrap
from tests.contract.registry import EVERYTHING, OF_ANY_TREE, STANDING, TRANSFORMATIONS
from tests.contract.test_types import assert_same_types, type_of
from tests.helpers import few


def mesh_of(kind):
    return jax.make_mesh((8,), ("x",), axis_types=(kind,))


@pytest.fixture
def explicit_params():
    """Under a mesh whose axes are part of the types."""
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        where = NamedSharding(mesh, P(None, "x"))
        yield jnp.zeros((2, 8, 4), jnp.float16, out_sharding=where)


def check_sharded_step(tx, params, **feedback):
    """init and update agree on types, shardings included; traced only."""

    def step(params, feedback):
        state = tx.init(params)
        updates, after = tx.update(params, state, params, **feedback)
        assert type_of(updates) == type_of(params)
        assert_same_types(after, state)
        return after

    jax.eval_shape(step, params, feedback)


# What differs in the shapes and kinds of its state.
KINDS = (
    "adafactor, all factored",
    "adagrad",
    "adamw",
    "lamb",
    "noisy_sgd",
    "rprop",
    "sgd with momentum",
    "sm3",
    "contrib muon",
    "contrib schedule_free_sgd",
    "filters.adam",
)


@pytest.mark.parametrize(
    "name, entry", few(entries(), [(name, "factory") for name in KINDS])
)
def test_shardings_in_types_are_kept_around_any_optimizer(name, entry, explicit_params):
    one, value = OPTIMIZERS[name], {"value": jnp.float32(1.0)}
    inner = optax.with_extra_args_support(one.build())
    try:
        check_sharded_step(inner, explicit_params, **value)
    except Exception:  # JAX's sharding error has no public name
        pytest.skip("the optimizer itself does not keep them")
    check_sharded_step(wrap(one, entry), explicit_params, **value)


@pytest.mark.parametrize(
    "name", few(OF_ANY_TREE, [name for name in STANDING if name in OF_ANY_TREE])
)
def test_shardings_in_types_are_kept_in_every_transformation(name, explicit_params):
    tx, one = TRANSFORMATIONS[name].make(), jnp.float32(1.0)
    check_sharded_step(tx, explicit_params)
    check_sharded_step(tx, explicit_params, value=one, reward=one)


def test_shardings_in_types_are_the_same_with_and_without_jit(explicit_params):
    tx, params = TRANSFORMATIONS["factory, bare"].make(), explicit_params
    state = tx.init(params)
    assert_same_types(jax.jit(tx.init)(params), state)

    def update(grads, state, params):
        return tx.update(grads, state, params, value=jnp.float32(1.0))[1]

    assert_same_types(update(params, state, params), state)
    assert_same_types(jax.jit(update)(params, state, params), state)


def sharded_params(mesh, rows=(512, 256), columns=(256, 512)):
    """On GSPMD's mesh: one sharded by rows, one by columns, one replicated."""
    rng = np.random.default_rng(0)
    shapes = {"rows": rows, "columns": columns, "bias": (512,)}
    specs = {"rows": P("x", None), "columns": P(None, "x"), "bias": P()}
    return {
        name: jax.device_put(
            jnp.asarray(rng.normal(size=shape), jnp.float32),
            NamedSharding(mesh, specs[name]) if mesh else jax.devices()[0],
        )
        for name, shape in shapes.items()
    }


def a_step(tx):
    def step(params, state, scale, value):
        grads = jax.tree.map(lambda p: scale * p, params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    return step


def collectives(compiled):
    """(kind, entries) of every array that devices exchange."""
    for line in compiled.as_text().splitlines():
        found = re.search(
            r"= (.*?) (all-gather|all-reduce|all-to-all|collective-permute"
            r"|reduce-scatter|collective-broadcast)(-start)?\(",
            line,
        )
        for shape in re.findall(r"\w+\[([\d,]*)\]", found[1] if found else ""):
            yield found[2], int(np.prod([int(n) for n in shape.split(",") if n]))


def test_gradients_may_be_sharded_in_their_own_way():
    mesh = mesh_of(AxisType.Explicit)
    tx = ao.adaptive_scheduler(optax.sgd, 0.1, average=False)
    with jax.set_mesh(mesh):
        params = jax.device_put(jnp.ones((16, 8)), NamedSharding(mesh, P()))
        grads = jax.device_put(jnp.ones((16, 8)), NamedSharding(mesh, P("x")))
        state, ends = tx.init(params), []
        for _ in range(3):
            updates, state = tx.update(grads, state, params, value=1.0)
            ends.append(updates)
    assert int(state.sensor.cosines[3, 0]) == 2  # steps that were compared
    np.testing.assert_allclose(ends[0], -0.1 * 2 / 20, rtol=1e-6)


def test_eight_devices_agree_with_one_and_exchange_scalars_only():
    # Anything parameter-sized between devices would make the controller cost a step.
    options = EVERYTHING | {"sketch": 1 / 64, "total_steps": 70}
    ends = []
    for mesh in (None, mesh_of(AxisType.Auto)):
        tx = ao.adaptive_scheduler(optax.adamw, 1e-2, **options)
        params = sharded_params(mesh)
        state = tx.init(params)
        arguments = params, state, jnp.float32(1.0), jnp.float32(3.0)
        step = jax.jit(a_step(tx)).lower(*arguments).compile()
        for t in range(8):
            params, state = step(
                params, state, jnp.float32(1 - t / 20), jnp.float32(3.0 - t / 5)
            )
        ends.append((params, state))
        if mesh:
            exchanged = list(collectives(step))
            assert exchanged and max(size for _, size in exchanged) <= 64, exchanged
            assert {kind for kind, _ in exchanged} == {"all-reduce"}
            sketches = (
                state.sensor.motion.step_sketch,
                state.sensor.motion.displacement_sketch,
                state.sensor.motion.anchor_sketch,
            )
            for tree in sketches:
                assert not tree["rows"].is_fully_replicated
                assert not tree["columns"].is_fully_replicated
    chex.assert_trees_all_close(*jax.tree.map(np.asarray, ends), rtol=1e-5, atol=1e-7)


def test_a_shard_of_an_odd_number_of_rows_is_not_moved_for_the_sketch():
    # 264 rows over 8 devices are 33 each: an even stride through them straddles the
    # shards, and XLA sent the whole parameter around.
    params = sharded_params(mesh_of(AxisType.Auto), (264, 512), (512, 24 * 33))
    tx = ao.adaptive_scheduler(optax.sgd, 1e-2, average=False, recovery=False)
    state = tx.init(params)
    arguments = params, state, jnp.float32(1.0), jnp.float32(3.0)
    step = jax.jit(a_step(tx)).lower(*arguments).compile()
    large = [found for found in collectives(step) if found[1] > 64]
    assert not large
