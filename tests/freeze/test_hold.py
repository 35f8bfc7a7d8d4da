"""Optimizers that hold frozen leaves: exact, and in place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.freeze import hold as holding
from tests.contract.optimizers import OPTIMIZERS
from tests.freeze.driving import INNERS

PARAMS = {
    "a": jnp.asarray([[1.0, -2.0], [3.0, -0.0]]),
    "b": jnp.asarray([0.5, -1.5]),
}
A_FROZEN = {"a": jnp.asarray(True), "b": jnp.asarray(False)}
LIVE = {"a": jnp.asarray(False), "b": jnp.asarray(False)}


def gradient(params, t):
    return jax.tree.map(lambda p: p * (1.0 + jnp.sin(1.0 * t)), params)


def steps(tx, masks, params=PARAMS):
    """Parameters and state after each step; the mask is data."""

    @jax.jit
    def step(params, state, mask, t):
        grads = gradient(params, t)
        updates, state = tx.update(grads, state, params, frozen=mask)
        return ao.apply_updates(params, updates, mask), state

    state, history = tx.init(params), []
    for t, mask in enumerate(masks):
        params, state = step(params, state, mask, t)
        history.append((params, state))
    return history


def of(name, state):
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    return [np.asarray(leaf) for path, leaf in paths if f"'{name}'" in str(path)]


@pytest.mark.parametrize("name", INNERS)
def test_holds_a_leaf_and_its_moments_and_nothing_else(name):
    tx = ao.hold_frozen(inner_for(name))
    history = steps(tx, [LIVE, LIVE, A_FROZEN, A_FROZEN, LIVE])
    (start, held), (params, state), (after, _) = history[1], history[3], history[4]
    np.testing.assert_array_equal(params["a"], start["a"])
    assert np.signbit(params["a"][1, 1]) == np.signbit(start["a"][1, 1])
    for now, then in zip(of("a", state), of("a", held), strict=True):
        np.testing.assert_array_equal(now, then)
    assert np.any(params["b"] != start["b"])
    assert np.any(after["a"] != params["a"])


def inner_for(name):
    """The optimizers of the freezing tests, for leaves of these names."""
    special = {
        "masked": lambda: optax.chain(
            optax.masked(optax.adam(1.0), {"a": True, "b": False}), optax.sgd(0.1)
        ),
        "partition": lambda: optax.partition(
            {"x": optax.adam(0.1), "y": optax.sgd(0.1, 0.9)}, {"a": "x", "b": "y"}
        ),
    }
    return special[name]() if name in special else INNERS[name]


@pytest.mark.parametrize("name", ["filters.adam", "filters.adagrad", "adamw", "lion"])
def test_live_leaves_go_on_as_if_alone(name):
    inner = OPTIMIZERS[name].build()
    both = steps(ao.hold_frozen(inner), [A_FROZEN] * 4)
    alone = steps(ao.hold_frozen(inner), [{"b": LIVE["b"]}] * 4, {"b": PARAMS["b"]})
    for (params, _), (expected, _) in zip(both, alone, strict=True):
        np.testing.assert_allclose(params["b"], expected["b"], rtol=1e-6)


def test_without_a_mask_it_is_the_inner_optimizer():
    inner = optax.adamw(0.1)
    tx = ao.hold_frozen(inner)
    got = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    want = inner.update(PARAMS, inner.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_layers_of_a_stacked_leaf():
    params = {"w": jnp.arange(6.0).reshape(3, 2) + 1}
    mask = {"w": jnp.asarray([True, False, True])}
    (after, state), *_ = steps(ao.hold_frozen(optax.adam(0.1)), [mask], params)
    moved = np.any(np.asarray(after["w"] != params["w"]), axis=1)
    np.testing.assert_array_equal(moved, [False, True, False])
    np.testing.assert_array_equal(state[0].mu["w"][0], 0.0)
    assert np.all(state[0].mu["w"][1] != 0.0)


def test_state_that_mixes_the_layers_is_held_once_all_are_frozen():
    # SM3 keeps the largest square of every column, whichever layer it is of.
    params = {"w": jnp.arange(6.0).reshape(3, 2) + 1}
    masks = [[True, False, True], [True, True, True]]
    masks = [{"w": jnp.asarray(mask)} for mask in masks]
    history = steps(ao.hold_frozen(optax.sm3(0.1)), masks, params)
    (some,), (none,) = (
        [x for x in jax.tree.leaves(state) if x.shape == (2,)] for _, state in history
    )
    assert np.all(some > 0)
    np.testing.assert_array_equal(none, some)


def test_moments_that_are_one_array_are_held_apart():
    def init(params):
        return jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.ones_like, params)

    def update(updates, state, params=None):
        del params
        twice = jax.tree.map(lambda g: 2 * g, updates)
        return updates, (twice, twice)

    tx = ao.hold_frozen(optax.GradientTransformation(init, update))
    _, moments = tx.update(PARAMS, tx.init(PARAMS), PARAMS, frozen=A_FROZEN)
    for before, moment in enumerate(moments):
        np.testing.assert_array_equal(moment["a"], before)
        np.testing.assert_array_equal(moment["b"], 2 * PARAMS["b"])


def test_a_known_mask_aliases_what_is_frozen():
    tx = ao.hold_frozen(optax.adam(0.1))
    frozen = {"a": True, "b": False}
    state = tx.init(PARAMS)
    _, new = tx.update(PARAMS, state, PARAMS, frozen=frozen)
    assert new[0].mu["a"] is state[0].mu["a"]
    assert ao.apply_updates(PARAMS, PARAMS, frozen)["a"] is PARAMS["a"]


def test_moments_are_selected_before_anything_reads_them():
    # Selected afterwards, XLA copies every moment: 4 to 6 times the optimizer's time.
    def copies(update):
        big = {k: jnp.ones((64, 64)) for k in "ab"}
        inner = optax.adam(1e-3)

        def step(params, state, grads, mask):
            updates, new = update(inner, grads, state, params, mask)
            return ao.apply_updates(params, updates, mask), new

        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(
            big, inner.init(big), big, A_FROZEN
        )
        return lowered.compile().as_text().count(" copy(")

    def afterwards(inner, grads, state, params, mask):
        updates, new = inner.update(grads, state, params)
        select = functools.partial(jax.tree.map, jnp.where, mask)
        adam = new[0]._replace(
            mu=select(state[0].mu, new[0].mu), nu=select(state[0].nu, new[0].nu)
        )
        return updates, (adam, *new[1:])

    def at_the_source(inner, grads, state, params, mask):
        return holding.held_update(inner, mask, grads, state, params)

    assert copies(at_the_source) == 0 < copies(afterwards)


def test_an_update_with_ordered_effects_is_still_exact():
    seen = []

    tx = ao.hold_frozen(
        optax.chain(
            optax.trace(0.9),
            optax.GradientTransformation(lambda _: optax.EmptyState(), noisy(seen)),
        )
    )
    history = steps(tx, [LIVE, A_FROZEN])
    jax.effects_barrier()
    assert len(seen) == 2
    first, second = (of("a", state) for _, state in history)
    np.testing.assert_array_equal(first, second)


def noisy(seen):
    from jax.experimental import io_callback

    def update(updates, state, params=None):
        del params
        io_callback(lambda x: seen.append(float(x)), None, jnp.ones(()), ordered=True)
        return updates, state

    return update


def test_nans_of_frozen_leaves_stay_out():
    tx = ao.hold_frozen(optax.adamw(0.1))
    grads = {"a": jnp.full((2, 2), jnp.nan), "b": jnp.ones(2)}
    updates, state = tx.update(grads, tx.init(PARAMS), PARAMS, frozen=A_FROZEN)
    np.testing.assert_array_equal(updates["a"], 0.0)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


def test_bad_input():
    with pytest.raises(TypeError, match=r"`inner`.*0\.1.*hold_frozen\(optax.adam"):
        ao.hold_frozen(0.1)
    tx = ao.hold_frozen(optax.sgd(0.1))
    with pytest.raises(ValueError, match="lacks 'b'"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, frozen={"a": True})
    with pytest.raises(ValueError, match=r"'b' must have shape.*got \(3,\)"):
        ao.apply_updates(PARAMS, PARAMS, {"a": True, "b": np.zeros(3, bool)})


@pytest.mark.parametrize("mask", [{}, {"frozen": A_FROZEN}])
def test_swapped_arguments_are_named(mask):
    tx = ao.hold_frozen(optax.adam(0.1))
    state = tx.init(PARAMS)
    with pytest.raises(TypeError, match="`state` and `params` are swapped.*third"):
        tx.update(PARAMS, PARAMS, state, **mask)
    with pytest.raises(TypeError, match="`state` and `grads` are swapped.*first"):
        tx.update(state, PARAMS, PARAMS, **mask)
