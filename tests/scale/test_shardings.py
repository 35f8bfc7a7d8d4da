"""A state lies where its parameters lie, whatever the mesh is."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from tests.contract.registry import EVERYTHING

SHAPES = {"rows": (512, 256), "columns": (256, 512), "bias": (512,)}
MESHES = {
    "data": ((8,), ("x",), {"rows": P(), "columns": P(), "bias": P()}),
    "tensor": (
        (2, 4),
        ("data", "model"),
        {"rows": P("model"), "columns": P(None, "model"), "bias": P()},
    ),
    "fully sharded": (
        (8,),
        ("x",),
        {"rows": P("x"), "columns": P(None, "x"), "bias": P("x")},
    ),
    "both axes": (
        (4, 2),
        ("data", "model"),
        {
            "rows": P("data", "model"),
            "columns": P(None, ("data", "model")),
            "bias": P(),
        },
    ),
}


def where(kind, of=jax.make_mesh):
    sizes, names, specs = MESHES[kind]
    mesh = of(sizes, names, axis_types=(AxisType.Auto,) * len(names))
    return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}


def some_params():
    rng = np.random.default_rng(0)
    return {
        name: jnp.asarray(rng.normal(size=shape), jnp.float32)
        for name, shape in SHAPES.items()
    }


def everything(inner=optax.adamw):
    options = EVERYTHING | {"sketch": 1 / 64, "total_steps": 70}
    return ao.adaptive_scheduler(inner, 1e-2, **options)


def check_places(tree, shardings):
    def one(leaf, expected):
        assert leaf.sharding.is_equivalent_to(expected, leaf.ndim), leaf.shape

    jax.tree.map(one, tree, shardings)


@pytest.mark.parametrize("kind", MESHES)
def test_what_belongs_to_a_parameter_lies_as_it_does_and_the_rest_everywhere(kind):
    places, params = where(kind), some_params()
    state = ao.state_shardings(everything(), params, places)
    moments = optax.tree.get(state, "mu"), optax.tree.get(state, "nu")
    for tree in (*moments, state.averaging.average, state.recovery.copy.good_params):
        assert tree == places
    motion = state.sensor.motion
    sketches = (*motion[:3], state.window.window_level)
    for tree in sketches:
        assert tree == places
    scalars = state._replace(
        inner_state=(), averaging=(), recovery=(), sensor=(), window=()
    )
    assert {s.spec for s in jax.tree.leaves(scalars)} == {P()}


@pytest.mark.parametrize("kind", MESHES)
def test_a_step_under_jit_keeps_the_state_there_and_the_numbers(kind):
    tx, places = everything(), where(kind)
    ends = []
    for where_params in (None, places):
        params = some_params()
        if where_params:
            params = jax.device_put(params, where_params)
            out = where_params, ao.state_shardings(tx, params)
            init = jax.jit(tx.init, out_shardings=out[1])
        else:
            out, init = None, tx.init

        def step(params, state, value):
            grads = jax.tree.map(lambda p: 0.5 * p, params)
            updates, state = tx.update(grads, state, params, value=value)
            return optax.apply_updates(params, updates), state

        run = jax.jit(step, donate_argnums=(0, 1), out_shardings=out)
        state = init(params)
        for t in range(6):
            params, state = run(params, state, jnp.float32(3.0 - t / 5))
        if out:
            check_places(state, out[1])
        ends.append(jax.tree.map(np.asarray, (params, state)))
    chex.assert_trees_all_close(*ends, rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_checkpoint_is_read_onto_another_mesh(tmp_path):
    tx, params = everything(), some_params()
    state = tx.init(params)
    shardings = ao.state_shardings(tx, params, where("tensor"))
    like = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        shardings,
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "run", like)
    check_places(restored, shardings)
    chex.assert_trees_all_equal(*(jax.device_get(each) for each in (restored, state)))


def test_nothing_is_allocated_and_no_device_is_needed():
    params = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()
    }
    abstract = where("fully sharded", AbstractMesh)
    state = ao.state_shardings(everything(), params, abstract)
    assert state.averaging.average["rows"].spec == P("x")


OPTIMIZERS = {
    "adafactor": lambda: optax.adafactor(1e-3),
    "partition": lambda: optax.partition(
        {"a": ao.adaptive_adamw(1e-3), "b": optax.sgd(0.1)},
        {"rows": "a", "columns": "b", "bias": "a"},
    ),
    "chain": lambda: optax.chain(optax.adam(1e-3), ao.average_params()),
    "freezing": lambda: ao.adaptive_adamw(1e-3, freeze=ao.Freeze(0.1, never=["bias"])),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_state_can_be_made_so(name):
    tx, places = OPTIMIZERS[name](), where("fully sharded")
    params = jax.device_put(some_params(), places)
    shardings = ao.state_shardings(tx, params)
    check_places(jax.jit(tx.init, out_shardings=shardings)(params), shardings)


def test_complex_parameters_and_bare_arrays_and_one_sharding_for_all():
    place = where("fully sharded")["rows"]
    params = jnp.ones((512, 64), jnp.complex64)
    tx = ao.adaptive_scheduler(optax.sgd, 0.1)
    state = ao.state_shardings(tx, params, place)
    assert state.averaging.average == place
    assert state.sensor.motion.step_sketch.spec[0] == "x"
    assert state.sensor.series.spec == P() and state.readings.spec == P()
    jax.jit(tx.init, out_shardings=state)(params)


def test_an_axis_that_the_mesh_does_not_divide_stays_whole():
    # Three devices divide 3^7 rows, but not the 1,094 that every second row leaves.
    mesh = jax.make_mesh((3,), ("x",), axis_types=(AxisType.Auto,))
    params = {"w": jnp.ones((3**7, 64))}
    tx = ao.adaptive_scheduler(optax.sgd, 0.1)
    state = ao.state_shardings(tx, params, NamedSharding(mesh, P("x")))
    assert state.sensor.motion.step_sketch["w"].spec == P()
    assert state.averaging.average["w"].spec == P("x")
    jax.jit(tx.init, out_shardings=state)(params)


@pytest.mark.parametrize(
    "shardings, error, message",
    [
        ({"w": P("x")}, TypeError, "got P.*'w'.*NamedSharding"),
        ({"v": where("data")["bias"]}, ValueError, "'v'.*p.sharding"),
        ({"w": 3}, TypeError, "got 3"),
    ],
)
def test_what_is_no_sharding_is_refused(shardings, error, message):
    params = {"w": jnp.ones(8)}
    with pytest.raises(error, match=message):
        ao.state_shardings(optax.sgd(0.1), params, shardings)
