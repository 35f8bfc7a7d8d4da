"""The state read and written by Optax's own tools: `map_params`, `get` and `set`."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from tests.contract.optimizers import OPTIMIZERS, wrap
from tests.contract.registry import (
    OF_ANY_TREE,
    SCHEDULERS,
    TRANSFORMATIONS,
    some_params,
)


@pytest.mark.parametrize("name", OF_ANY_TREE)
def test_map_params_tells_parameters_from_the_rest(name):
    # How shardings and casts are applied to an optimizer's state.
    tx, params = (
        TRANSFORMATIONS[name].make(),
        {"u": jnp.ones((5, 7)), "v": jnp.ones(19)},
    )
    state = tx.init(params)
    same = optax.tree.map_params(tx, lambda leaf: leaf, state)
    chex.assert_trees_all_equal(same, state)
    marked = optax.tree.map_params(
        tx,
        lambda leaf, p: ("of", p.shape),
        state,
        params,
        transform_non_params=lambda leaf: "other",
    )
    leaves = jax.tree.leaves(
        marked, is_leaf=lambda x: isinstance(x, tuple) and x[:1] == ("of",)
    )
    for leaf, mark in zip(jax.tree.leaves(state), leaves, strict=True):
        if mark == "other":
            assert leaf.shape not in {p.shape for p in params.values()}
        else:
            assert leaf.shape == mark[1]


@pytest.mark.parametrize("name", ["adam", "sgd with momentum", "contrib muon"])
@pytest.mark.parametrize("entry", ["factory", "built"])
def test_map_params_works_around_other_optimizers(name, entry):
    tx = wrap(OPTIMIZERS[name], entry)
    state = tx.init(some_params())
    chex.assert_trees_all_equal(optax.tree.map_params(tx, lambda x: x, state), state)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_tree_get_finds_the_gains(name):
    state = SCHEDULERS[name].make().init(some_params())
    if name == "built, injected":  # Optax injects under the name that we have too
        state = state._replace(inner_state=(), recovery=())
    for field in ("learning_rate", "lr_scale", "sigma", "frozen_fraction"):
        found = optax.tree.get(state, field)
        assert isinstance(found, jax.Array) and found.shape == ()


@pytest.mark.parametrize("name", ["factory", "freezing", "momentum rule", "everything"])
def test_tree_get_finds_the_inner_moments_as_without_us(name):
    # A second copy under the same names (a last good one, a shadow) is ambiguous.
    state = SCHEDULERS[name].make().init(some_params())
    for field in ("mu", "nu"):
        chex.assert_trees_all_equal_shapes(optax.tree.get(state, field), some_params())
    assert optax.tree.get(state, "count").dtype == jnp.int32


def test_tree_set_writes_a_gain():
    state = SCHEDULERS["factory"].make().init(some_params())
    after = optax.tree.set(state, lr_scale=jnp.float32(0.5))
    assert float(after.lr_scale) == 0.5
