"""Freezing as a transformation: what it holds of a leaf and of its moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax.freeze import transform as freezing
from adaptive_optax.freeze.transform import (
    Freeze,
    FreezeInnerState,
    freeze_by_grad_norm,
    frozen_mask,
)
from tests.freeze.driving import INNERS, PARAMS, QUICK, gradient, run


def of_quiet(state):
    """The parts of the inner state that belong to the leaf "quiet"."""

    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    return [np.asarray(leaf) for path, leaf in paths if "quiet" in str(path)]


@pytest.mark.parametrize("name", INNERS)
def test_a_frozen_leaf_and_its_moments_are_bit_identical(name):
    inner = INNERS[name]
    history = run(freeze_by_grad_norm(1e-3, inner, **QUICK))
    first = 3  # warmup 2, and a dwell of 3 live steps
    for params, state in history[first:]:
        assert bool(state.freeze_state.freeze_mask[1])  # sorted: loud, quiet
        assert not bool(state.freeze_state.freeze_mask[0])
        before_params, before = history[first - 1]
        np.testing.assert_array_equal(params["quiet"], before_params["quiet"])
        held = of_quiet(state.freeze_inner)
        for now, then in zip(held, of_quiet(before.freeze_inner), strict=True):
            np.testing.assert_array_equal(now, then)
    # The live leaf went on, at every step.
    loud = [np.asarray(params["loud"]) for params, _ in history]
    assert all(np.any(a != b) for a, b in zip(loud, loud[1:], strict=False))
    assert held, "nothing was compared"


def test_a_live_run_equals_the_inner_optimizer():
    inner = optax.adamw(0.1)
    ours = run(freeze_by_grad_norm(0.0, inner, **QUICK))
    plain = run(inner)
    for (a, state), (b, inner_state) in zip(ours, plain, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
        jax.tree.map(np.testing.assert_array_equal, state.freeze_inner, inner_state)


def test_a_frozen_nan_gradient_does_no_harm():
    tx = freeze_by_grad_norm(1e-3, optax.adamw(0.1), **QUICK)
    params, state = run(tx)[-1]
    grads = {"quiet": jnp.full((2, 2), jnp.nan), "loud": jnp.ones(2)}
    updates, state = tx.update(grads, state, params)
    np.testing.assert_array_equal(updates["quiet"], 0.0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_revival_is_seen_and_the_leaf_moves_again():
    tx = freeze_by_grad_norm(1e-3, optax.sgd(0.1), **QUICK)
    params, state = run(tx)[-1]
    update = jax.jit(tx.update)
    for t in range(12, 24):
        updates, state = update(gradient(params, t, quiet=5.0), state, params)
    assert not bool(state.freeze_state.freeze_mask[1])
    assert np.any(updates["quiet"] != 0)


def test_last_link_of_a_chain_holds_weight_decay_and_dither_out():
    from adaptive_optax.act.dither import add_dither

    tx = optax.chain(
        optax.adamw(0.1, weight_decay=0.1),
        add_dither(0.1),
        freeze_by_grad_norm(1e-3, **QUICK),
    )
    history = run(tx, grad=True)
    for params, _ in history[3:]:
        np.testing.assert_array_equal(params["quiet"], history[2][0]["quiet"])
    assert np.any(history[-1][0]["loud"] != history[2][0]["loud"])
    # Without grad= it sees the updates, which Adam has made large.
    assert not any(run(tx)[-1][1][-1].freeze_mask)


def test_mask_and_fraction_by_size():
    tx = freeze_by_grad_norm(1e-3, optax.adam(0.1), **QUICK)
    params, state = run(tx)[-1]
    mask = frozen_mask(optax.chain(tx).init(params), params)
    assert {k: bool(v) for k, v in mask.items()} == {"quiet": False, "loud": False}
    mask = frozen_mask({"deep": (state,)}, params)
    assert {k: bool(v) for k, v in mask.items()} == {"quiet": True, "loud": False}
    layout = Freeze().layout(params)
    fraction = jax.jit(functools.partial(freezing.frozen_fraction, layout=layout))
    np.testing.assert_allclose(fraction(state.freeze_state), 4 / 6, rtol=1e-6)
    assert fraction(state.freeze_state).dtype == jnp.float32


def test_mask_of_an_nnx_optimizer():
    from flax import nnx

    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    tx = freeze_by_grad_norm(1e3, optax.adam(0.1), **QUICK)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    for _ in range(4):
        optimizer.update(model, grads)
    mask = frozen_mask(optimizer.opt_state, nnx.state(model, nnx.Param))
    assert jax.tree.leaves(mask) == [True, True]


@pytest.mark.parametrize("inner", [None, optax.adamw(0.1)])
def test_the_state_carries_no_parameter_shaped_statistics(inner):
    tx = freeze_by_grad_norm(1e-3, inner)
    state = tx.init(jax.eval_shape(lambda: PARAMS))
    own = state.freeze_state if isinstance(state, FreezeInnerState) else state
    assert {leaf.shape for leaf in jax.tree.leaves(own)} == {(2,), ()}
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(own))


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"threshold": -1e-4}, ValueError, r"`threshold`.*-0\.0001.*threshold=1e-4"),
        ({"threshold": float("nan")}, ValueError, "finite, got nan"),
        ({"threshold": "small"}, TypeError, "small"),
        ({"ema_decay": 1.0}, ValueError, r"`ema_decay`.*1\.0"),
        ({"hysteresis": 0.5}, ValueError, r"`hysteresis`.*0\.5"),
        ({"min_dwell": -1}, ValueError, "`min_dwell`.*-1"),
        ({"warmup": 1.5}, TypeError, r"`warmup`.*1\.5"),
        ({"probe_every": 0}, ValueError, "`probe_every`.*0"),
        ({"probe_steps": 0}, ValueError, "`probe_steps`.*0"),
        ({"probe_every": 2, "probe_steps": 3}, ValueError, "3 > 2"),
        ({"relative_to": "mean"}, ValueError, "'initial'.*'mean'"),
        ({"max_fraction": 1.5}, ValueError, r"`max_fraction`.*1\.5"),
        ({"inner": 0.1}, TypeError, r"`inner`.*0\.1.*optax\.adam"),
    ],
)
def test_bad_arguments(settings, error, match):
    with pytest.raises(error, match=match):
        freeze_by_grad_norm(**settings)


def test_frozen_mask_of_other_states_and_parameters():
    with pytest.raises(ValueError, match="holds 0 freeze masks.*freeze_threshold"):
        frozen_mask(optax.adam(0.1).init(PARAMS), PARAMS)
    state = freeze_by_grad_norm(1e-4).init(PARAMS)
    with pytest.raises(ValueError, match="holds 2 freeze masks"):
        frozen_mask((state, state), PARAMS)
    with pytest.raises(ValueError, match="has 2 entries.*have 1"):
        frozen_mask(state, {"w": jnp.ones(2)})
