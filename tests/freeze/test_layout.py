"""What an entry is: layers of a stacked leaf, a group, a leaf that never freezes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax import block_labels
from adaptive_optax.freeze import transform as freezing
from adaptive_optax.freeze.transform import Freeze, freeze_by_grad_norm, frozen_mask
from tests.freeze.driving import QUICK, decisions

STACKED = {
    "blocks": {"w": jnp.ones((3, 2, 2)), "b": jnp.ones((3, 2))},
    "head": jnp.ones(2),
}


def stacked_run(scales, steps=12, **settings):
    """Masks after every step; ``scales`` are of the gradients of the layers."""
    settings = {**QUICK, "stacked": "blocks", "ema_decay": 0.0, **settings}
    tx = freeze_by_grad_norm(1e-3, optax.adam(0.1), **settings)

    @jax.jit
    def step(params, state, scale):
        grads = jax.tree.map(
            lambda p: p * scale.reshape((3,) + (1,) * (p.ndim - 1)), params["blocks"]
        )
        grads = {"blocks": grads, "head": params["head"]}
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, state, masks = STACKED, tx.init(STACKED), []
    for t in range(steps):
        params, state = step(params, state, jnp.asarray(scales(t), jnp.float32))
        masks.append(jax.tree.map(np.asarray, frozen_mask(state, params)))
    return params, state, masks


def test_layers_of_a_stacked_leaf_freeze_and_wake_one_by_one():
    def scales(t):
        return [1e-6, 1.0, 1e-6 if t < 6 else 1.0]

    params, state, masks = stacked_run(scales)
    assert masks[5]["blocks"]["w"].tolist() == [True, False, True]
    assert masks[5]["head"].shape == ()
    assert not masks[5]["head"]
    # Seen in the probe at step 8, no earlier.
    woken = [m["blocks"]["b"].tolist() == [True, False, False] for m in masks]
    assert woken.index(True) == 8
    start = np.asarray(STACKED["blocks"]["w"])
    held = np.all(np.asarray(params["blocks"]["w"]) == start, axis=(1, 2))
    assert not held[1] and not held[2]
    assert state.freeze_state.freeze_mask.shape == (3 + 3 + 1,)
    np.testing.assert_allclose(
        freezing.frozen_fraction(
            state.freeze_state, Freeze(stacked="blocks").checked().layout(STACKED)
        ),
        6 / 20,
        rtol=1e-6,
    )


def test_groups_freeze_as_one_by_the_norm_of_all():
    norms = np.tile([0.08, 0.08, 0.05], (12, 1))  # together .113
    labels = ["a", "a", "b"]
    masks, _, _ = decisions(norms, threshold=0.1, groups=labels)
    np.testing.assert_array_equal(masks[-1], [False, False, True])
    masks, _, _ = decisions(norms, threshold=0.12, groups=lambda path: path == "2")
    assert masks[-1].all()
    # In a budget a group fits whole or not at all, and one loud member keeps it awake.
    settings = {"threshold": 1.0, "groups": labels, "max_fraction": 0.5}
    masks, _, _ = decisions(norms, [30, 30, 40], **settings)
    np.testing.assert_array_equal(masks[-1], [False, False, True])
    masks, _, _ = decisions(norms, threshold=1.0, groups=labels, never=["1"])
    np.testing.assert_array_equal(masks[-1], [False, False, True])


def test_groups_of_stacked_leaves_are_layers_of_blocks():
    from adaptive_optax.freeze.labels import block_labels

    groups = block_labels(STACKED, depth=1)
    _, _, masks = stacked_run(lambda t: [1e-6, 1.0, 1e-6], groups=groups)
    for leaf in masks[-1]["blocks"].values():
        assert leaf.tolist() == [True, False, True]


def test_what_never_freezes():
    masks, _, _ = decisions(np.zeros((20, 3)), threshold=1.0, never="1")
    np.testing.assert_array_equal(masks[-1], [True, False, True])
    tree = {"head": {"w": 1.0}, "body": [{"norm": 1.0, "w": 1.0}]}
    layout = Freeze(never=["head", "body/*/norm"]).layout(tree)
    assert dict(zip(layout.paths, layout.never.tolist(), strict=True)) == {
        "body/0/norm": True,
        "body/0/w": False,
        "head/w": True,
    }


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"never": ["haed"]}, ValueError, "`never`: 'haed' matches no leaf.*blocks/b"),
        ({"stacked": "trunk"}, ValueError, "`stacked`: 'trunk' matches no leaf"),
        ({"never": [3]}, TypeError, "`never` must hold paths, got 3"),
        ({"groups": {"head": "x"}}, ValueError, "`groups`.*lacks 'blocks/b'"),
    ],
)
def test_bad_selections(settings, error, match):
    with pytest.raises(error, match=match):
        freeze_by_grad_norm(1e-3, **settings).init(STACKED)


@pytest.mark.parametrize("of", ["never", "groups", "stacked"])
def test_map_params_reaches_a_state_whose_options_name_leaves(of):
    # Its placeholder has no leaves: no pattern matched one of those, and a state that
    # was laid out by the paths of stacked leaves had another structure.
    params = {"w": jnp.ones((3, 4)), "b": jnp.ones(3)}
    options = {"never": "b", "groups": block_labels(params), "stacked": "w"}
    tx = freeze_by_grad_norm(0.1, optax.adam(1e-2), **{of: options[of]})
    state = tx.init(params)
    same = optax.tree.map_params(tx, lambda leaf: leaf, state)
    assert jax.tree.structure(same) == jax.tree.structure(state)
    marked = optax.tree.map_params(
        tx, lambda leaf, p: p.shape == leaf.shape, state, params
    )
    assert jax.tree.leaves(marked.freeze_inner[0].mu) == [True, True]
    assert marked.freeze_state.freeze_mask is state.freeze_state.freeze_mask
