"""States of every version are read, and what does not fit is refused by its name."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import adaptive_optax as ao
from adaptive_optax.state import STATE_VERSION
from tests.contract.driving import driver, feedback
from tests.contract.registry import TRANSFORMATIONS, some_params
from tests.scale import golden

FILES = sorted(golden.FOLDER.glob("*.npz"))
PARAMS = {"w": jnp.ones((64, 32)), "b": jnp.ones(3)}


def read(file):
    """Its parts by name, without the prefix."""
    with np.load(file, allow_pickle=False) as held:
        arrays = dict(held)
    told = json.loads(file.with_suffix(".json").read_text())
    parts = {"params": {}, "state": {}, "after": {}}
    for key, x in arrays.items():
        dtype, shape = told["arrays"][key]
        part, name = key.split("/", 1)
        parts[part][name] = x.view(dtype).reshape(shape)
    return told["transformation"], parts


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_golden_state_is_read_and_goes_on(file):
    name, parts = read(file)
    params = {key: jnp.asarray(x) for key, x in parts["params"].items()}
    state = ao.load_state(TRANSFORMATIONS[name].make(), params, parts["state"])
    chex.assert_trees_all_equal_structs(state, driver(name).start()[1])
    for key, x in ao.state_arrays(state).items():
        if key in parts["state"] and key != "state_version":
            np.testing.assert_array_equal(x, parts["state"][key])
    ends = ao.state_arrays(golden.after(name, (params, state)))
    for key, x in parts["after"].items():
        np.testing.assert_allclose(ends[key], x, rtol=1e-4, atol=1e-6, err_msg=key)


def test_without_a_first_loss_a_state_of_version_0_has_none():
    # There it was the smallest float, which is a loss now.
    tx = ao.adaptive_adam(1e-3)
    state = tx.init(PARAMS)
    held = {key: np.array(x) for key, x in ao.state_arrays(state).items()}
    held["recovery/remembered"][0, 0] *= -1
    for key in (
        "state_version",
        "recovery/constant_nonfinite",
        "recovery/lost_entries",
        *(f"events/{field}" for field in state.events._fields),
    ):
        del held[key]
    chex.assert_trees_all_equal(ao.load_state(tx, PARAMS, held), state)


def test_there_is_a_golden_state_of_this_version():
    # A state that has changed needs a version, a migration and golden files of its own.
    newest = [file for file in FILES if file.stem.startswith(f"v{STATE_VERSION}_")]
    assert len(newest) == len(golden.CASES)
    for file in newest:
        name, parts = read(file)
        state = jax.eval_shape(TRANSFORMATIONS[name].make().init, some_params())
        now = {
            key: (str(x.dtype), x.shape) for key, x in ao.state_arrays(state).items()
        }
        then = {key: (str(x.dtype), x.shape) for key, x in parts["state"].items()}
        assert now == then


def test_golden_files_are_small():
    assert sum(file.stat().st_size for file in golden.FOLDER.iterdir()) < 400_000


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_orbax_restores_without_a_target_is_read(tmp_path):
    drive = driver("factory")
    carry = drive.loop(feedback(0, 22))
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", carry[1])
        plain = checkpointer.restore(tmp_path / "run")
    assert isinstance(plain, dict)
    state = ao.load_state(drive.tx, carry[0], plain)
    chex.assert_trees_all_equal(state, carry[1])


def make(inner=optax.adam, **options):
    return ao.adaptive_scheduler(inner, 0.01, **options)


OTHERS = {
    "average": make(average=False),
    "recovery": make(recovery=False),
    "recovery.inner": make(recovery=ao.Recovery(inner=False)),
    "freeze": make(freeze_threshold=0.1),
    "recovery.dtype": make(recovery=ao.Recovery(dtype=jnp.bfloat16)),
    "mode": make(mode="safe"),
    "law": make(law=ao.Law(search=None)),
    "rule": make(rule=ao.rules.trend()),
    "momentum_rule": make(momentum=0.9, momentum_rule=ao.rules.trend()),
}


@pytest.mark.parametrize("option", OTHERS)
@pytest.mark.parametrize("back", [False, True])
def test_a_state_of_other_options_is_refused_by_their_name(option, back):
    made, used = (OTHERS[option], make()) if back else (make(), OTHERS[option])
    state = made.init(PARAMS)
    with pytest.raises(ValueError, match=option):
        used.update(PARAMS, state, PARAMS, value=1.0)
    with pytest.raises(ValueError, match=f"the .*`{option.split('.')[0]}`"):
        ao.load_state(used, PARAMS, state)


@pytest.mark.parametrize(
    "used, message",
    [
        (make(sketch=1.0), r"step_sketch/w' is bfloat16\[32, 32\].*`sketch`"),
        (make(recovery=ao.Recovery(dtype=jnp.bfloat16)), "good_params/b.*`recovery`"),
        (make(optax.sgd), "inner_state/.*the `inner`"),
    ],
)
def test_so_is_one_whose_arrays_do_not_fit(used, message):
    with pytest.raises(ValueError, match=message):
        ao.load_state(used, PARAMS, make().init(PARAMS))


def in_lists(place):
    """A state with a list in place of a tuple there."""
    state = make().init(PARAMS)
    if place == "inner_state":
        return state._replace(inner_state=list(state.inner_state))
    copy = state.recovery.copy
    copy = copy._replace(good_inner=list(copy.good_inner))
    return state._replace(recovery=state.recovery._replace(copy=copy))


@pytest.mark.parametrize("place", ["inner_state", "recovery/copy/good_inner"])
def test_a_list_in_place_of_a_tuple_is_named(place):
    state = in_lists(place)
    message = f"`{place}` of the state is a list of 2, must be a tuple of 2: .*load_st"
    with pytest.raises(ValueError, match=message):
        make().update(PARAMS, state, PARAMS, value=1.0)
    # And what the message says helps.
    chex.assert_trees_all_equal(
        ao.load_state(make(), PARAMS, state), make().init(PARAMS)
    )


PARTS = ["sensor", "sensor.motion", "recovery", "recovery.copy", "averaging", "window"]


@pytest.mark.parametrize("place", [*PARTS, "events"])
def test_a_dict_in_place_of_a_part_is_named(place):
    def read(node, *path):
        if not path:
            return node._asdict()
        below = {path[0]: read(getattr(node, path[0]), *path[1:])}
        return node._replace(**below)

    state = read(make().init(PARAMS), *place.split("."))
    last = place.rpartition(".")[2]
    with pytest.raises(ValueError, match=f"{last}` of the state is a dict .*load_stat"):
        make().update(PARAMS, state, PARAMS, value=1.0)


def test_the_inner_optimizer_is_asked_for_its_structure_once():
    inner, asked = optax.sgd(0.1), []

    def init(params):
        asked.append(params)
        return inner.init(params)

    tx = make(optax.GradientTransformation(init, inner.update))
    for params, calls in ((PARAMS, 2), ({"w": jnp.ones(3)}, 4)):
        state = tx.init(params)
        for _ in range(3):
            tx.update(params, state, params, value=1.0)
        assert len(asked) == calls


def test_the_inner_state_of_another_optimizer_is_named():
    with pytest.raises(
        ValueError, match="another `inner`: its `inner_state/0` is a Sc"
    ):
        make(optax.adagrad).update(PARAMS, make().init(PARAMS), PARAMS, value=1.0)


def test_a_newer_version_is_refused():
    state = make().init(PARAMS)
    state = state._replace(state_version=state.state_version + 1)
    with pytest.raises(ValueError, match="'state_version' is 3.* up to version 2"):
        ao.load_state(make(), PARAMS, state)


def test_states_in_a_chain_and_on_the_host_are_read_too():
    tx = optax.chain(optax.clip(1.0), make(recovery=ao.Recovery(memory="pinned_host")))
    state = tx.init(PARAMS)
    held = jax.tree.map(np.asarray, ao.state_arrays(state))
    loaded = ao.load_state(tx, PARAMS, held)
    copy = loaded[1].recovery.copy
    kinds = {x.sharding.memory_kind for x in jax.tree.leaves(copy)}
    assert kinds == {"pinned_host"}
    plain = optax.adam(0.1)
    chex.assert_trees_all_equal(
        ao.load_state(plain, PARAMS, plain.init(PARAMS)), plain.init(PARAMS)
    )
