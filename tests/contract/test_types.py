"""Types: those of the state never change, those of the updates are the gradients'.

Nothing is run here. A type is known as soon as a step is traced, which is what makes
every optimizer, through both entry points and in every dtype, affordable.
"""

import collections

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contract.optimizers import OPTIMIZERS, entries, wrap
from tests.contract.registry import (
    RULES,
    SCHEDULERS,
    STANDING,
    TRANSFORMATIONS,
    some_params,
)
from tests.helpers import few
from tests.rules.signal_streams import one_step

DTYPES = ("bfloat16", "float16", "float32", "float64", "complex64", "mixed")
# The dtype that breaks most: two of them, the wider one in float64 mode. The others are
# tried by default only with what differs most in what it keeps of the parameters.
HARDEST = "mixed"
OF_EVERY_DTYPE = ("adam", "filters.adamw")
OF_EVERY_DTYPE_THEMSELVES = ("copy in half", "everything", "filters.adam")


def abstract_params(dtype):
    if dtype == "mixed":
        return jax.eval_shape(lambda: some_params("float32", "float64"))
    return jax.eval_shape(lambda: some_params(dtype))


def a_loss(dtype):
    """Of another dtype than the parameters, on purpose."""
    other = jnp.bfloat16 if dtype == "float16" else jnp.float16
    return jax.ShapeDtypeStruct((), other)


def type_of(leaf):
    """Shape, dtype, weakness and sharding (the mesh of a replicated one aside)."""
    kind = jax.typeof(leaf)
    return str(kind), kind.weak_type, kind.sharding.spec


def types_of(tree):
    return jax.tree.map(type_of, tree)


def assert_same_types(actual, expected):
    chex.assert_trees_all_equal_structs(actual, expected)
    assert types_of(actual) == types_of(expected)


def weak(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jax.typeof(leaf).weak_type]


def check_step(tx, params, **feedback):
    """The types of one step, which is traced but not run."""

    def step(params, feedback, pick):
        state = tx.init(params)
        updates, after = tx.update(params, state, params, **feedback)
        assert_same_types(updates, params)
        assert_same_types(after, state)
        assert not weak(after)
        return jax.lax.cond(pick, lambda: after, lambda: state)

    jax.eval_shape(step, params, feedback, jax.ShapeDtypeStruct((), bool))


def optimizer_cases():
    """As Optax's own tests: no complex parameters where it promises none."""
    for name, entry in entries():
        for dtype in DTYPES:
            if dtype == "complex64" and OPTIMIZERS[name].real_only:
                continue
            # A built one is treated alike in either half or full precision.
            if entry == "factory" or dtype not in ("float16", "float32"):
                yield name, entry, dtype


def chosen_optimizer_cases():
    for name, entry, dtype in optimizer_cases():
        only_entry = OPTIMIZERS[name].rate is None
        if name in OF_EVERY_DTYPE or (
            dtype == HARDEST and (entry == "factory" or only_entry)
        ):
            yield name, entry, dtype


def transformation_cases():
    return [(name, dtype) for name in TRANSFORMATIONS for dtype in DTYPES]


@pytest.mark.parametrize(
    "name, entry, dtype", few(optimizer_cases(), list(chosen_optimizer_cases()))
)
def test_types_are_fixed_around_any_optimizer(name, entry, dtype):
    with jax.enable_x64(dtype in ("float64", "mixed")):
        tx = wrap(OPTIMIZERS[name], entry)
        check_step(tx, abstract_params(dtype), value=a_loss(dtype))


@pytest.mark.parametrize(
    "name, dtype",
    few(
        transformation_cases(),
        [
            case
            for case in transformation_cases()
            if case[0] in OF_EVERY_DTYPE_THEMSELVES or case[1] == HARDEST
        ],
    ),
)
def test_types_are_fixed_in_every_transformation(name, dtype):
    with jax.enable_x64(dtype in ("float64", "mixed")):
        tx, params = TRANSFORMATIONS[name].make(), abstract_params(dtype)
        check_step(tx, params)
        check_step(
            tx, params, value=a_loss(dtype), reward=jax.ShapeDtypeStruct((), jnp.int32)
        )


@pytest.mark.parametrize("name", few(TRANSFORMATIONS, STANDING))
def test_types_are_fixed_in_the_first_step_from_a_python_loss(name):
    # A Python number is weakly typed: it made float32 state weak, and a step retrace.
    tx = TRANSFORMATIONS[name].make()

    def step(params):
        state = tx.init(params)
        _, after = tx.update(params, state, params, value=1.0, reward=2)
        assert_same_types(after, state)
        return after

    assert not weak(jax.eval_shape(step, abstract_params("float32")))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_first_state_is_the_same_however_it_is_made(name):
    tx, params = TRANSFORMATIONS[name].make(), some_params()
    eager = tx.init(params)
    assert not weak(eager)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(eager))
    assert_same_types(jax.eval_shape(tx.init, params), eager)
    if TRANSFORMATIONS[name].abstract:
        assert_same_types(tx.init(abstract_params("float32")), eager)


@pytest.mark.parametrize("name, entry", entries())
def test_the_first_state_may_be_abstract_around_any_optimizer(name, entry):
    params = abstract_params("bfloat16")
    try:
        OPTIMIZERS[name].build().init(params)
    except TypeError:
        pytest.skip("the optimizer itself needs real parameters")
    tx = wrap(OPTIMIZERS[name], entry)
    assert_same_types(tx.init(params), jax.eval_shape(tx.init, params))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_state_holds_no_key_and_no_wide_scalar(name):
    state = TRANSFORMATIONS[name].make().init(some_params(jnp.bfloat16))
    if name in SCHEDULERS:  # what the inner optimizer keeps is its own affair
        state = state._replace(inner_state=(), recovery=(), shadow=())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        assert not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key), path
        if leaf.ndim == 0:
            assert leaf.dtype in (jnp.float32, jnp.int32, bool), path


def field_names(node, inner):
    """Names of every field in the nested NamedTuples of a state, down to ``inner``."""
    if node is inner:
        return
    if hasattr(node, "_fields"):
        yield from node._fields
    if isinstance(node, tuple | list):
        for child in node:
            yield from field_names(child, inner)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_field_names_are_unique(name):
    # `optax.tree.get` raises where a name occurs twice.
    state = SCHEDULERS[name].make().init(some_params())
    names = collections.Counter(field_names(state, state.inner_state))
    assert [name for name, times in names.items() if times > 1] == []
    assert names["learning_rate"] == 1


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("x64", [False, True])
def test_types_of_a_rule_are_fixed(name, x64, strict_types):
    with jax.enable_x64(x64):
        rule = RULES[name]()
        state = rule.init()
        for fields in ({}, {"standing__restored": True}, {"loss__arrived": False}):
            delta, after = jax.eval_shape(rule.update, one_step(**fields), state)
            assert jax.typeof(delta) == jax.typeof(jnp.float32(0))
            assert_same_types(after, state)
            assert not weak(after)


@pytest.mark.parametrize(
    "name", few(SCHEDULERS, [name for name in STANDING if name in SCHEDULERS])
)
def test_a_step_needs_no_implicit_promotion_of_ranks(name):
    # A [1] that met a scalar once silently made the whole state [1].
    with jax.numpy_rank_promotion("raise"):
        tx, params = SCHEDULERS[name].make(), {"x": jnp.zeros(3)}
        loss = jax.ShapeDtypeStruct((), np.float32)
        check_step(tx, jax.eval_shape(lambda: params), value=loss)
