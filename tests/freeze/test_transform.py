"""Freezing by gradient norm: when leaves rest and wake, and what the mask holds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax import _trees, block_labels
from adaptive_optax.freeze import transform as freezing
from adaptive_optax.freeze.transform import (
    Freeze,
    FreezeInnerState,
    freeze_by_grad_norm,
    frozen_mask,
    init_freezing,
    observe,
)

QUICK = {"warmup": 2, "min_dwell": 3, "probe_every": 4, "probe_steps": 1}


def decisions(norms, sizes=None, **settings):
    """The mask and the probe flag after every row of ``norms``."""
    norms = jnp.asarray(norms, jnp.float32)
    config = Freeze(**{**QUICK, **settings}).checked()
    leaves = [np.zeros(size) for size in sizes or [1] * norms.shape[1]]
    layout = config.layout(leaves)

    def step(state, row):
        state = observe(state, row, config, layout)
        return state, (state.freeze_mask, state.freeze_probing)

    init = init_freezing(leaves, config)
    state, (masks, probes) = jax.jit(lambda n: jax.lax.scan(step, init, n))(norms)
    return np.asarray(masks), np.asarray(probes), state


def twin(norms, config, relative_to):
    """One leaf after the other, in plain Python."""
    n_leaves = norms.shape[1]
    frozen, dwell = [False] * n_leaves, [0] * n_leaves
    total, weight = np.zeros(n_leaves), np.zeros(n_leaves)
    initial, probing, masks = np.zeros(n_leaves), True, []
    seen = [False] * n_leaves
    for t, row in enumerate(norms):
        for i, norm in enumerate(row):
            seen[i] = (probing or not frozen[i]) and np.isfinite(norm)
            if seen[i]:
                first = weight[i] == 0
                total[i] = config.ema_decay * total[i] + (1 - config.ema_decay) * norm
                weight[i] = config.ema_decay * weight[i] + (1 - config.ema_decay)
            else:
                first = weight[i] == 0
            if (t < config.warmup or first) and weight[i] > 0:
                initial[i] = total[i] / weight[i]
        mean = np.where(weight > 0, total / np.maximum(weight, 1e-30), 0)
        for i in range(n_leaves):
            tau = config.threshold
            tau = (
                tau
                * {"absolute": 1, "initial": initial[i], "largest": max(mean)}[
                    relative_to
                ]
            )
            may = weight[i] > 0 and dwell[i] >= config.min_dwell
            dwell[i] += 1
            if frozen[i] and may and seen[i] and mean[i] > config.hysteresis * tau:
                frozen[i], dwell[i] = False, 1
            elif not frozen[i] and may and t >= config.warmup and mean[i] < tau:
                frozen[i], dwell[i] = True, 1
        probing = (t + 1) % config.probe_every < config.probe_steps
        masks.append(list(frozen))
    return np.array(masks)


@pytest.mark.parametrize("relative_to", ["absolute", "initial", "largest"])
@pytest.mark.parametrize("probe_steps", [1, 3])
def test_matches_the_twin(relative_to, probe_steps):
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0, 0.4, (500, 5)), axis=0)
    norms = np.exp(4 * np.sin(walk / 3)).astype(np.float32)
    norms[rng.random((500, 5)) < 0.03] = np.nan
    norms[rng.random((500, 5)) < 0.03] = np.inf
    settings = {"threshold": 0.2, "relative_to": relative_to, "ema_decay": 0.8}
    settings["probe_steps"] = probe_steps
    masks, _, _ = decisions(norms, **settings)
    config = Freeze(**{**QUICK, **settings}).checked()
    np.testing.assert_array_equal(masks, twin(norms, config, relative_to))
    switches = np.abs(np.diff(masks.astype(int), axis=0)).sum()
    assert switches > 10  # both ways, many times


def test_nothing_freezes_before_the_warm_up():
    masks, _, _ = decisions(np.zeros((12, 1)), threshold=1.0, warmup=7, min_dwell=0)
    assert list(masks[:, 0]).index(True) == 7


def test_a_state_lasts_its_minimum_dwell():
    # Quiet, then loud for good; probes at every step, so only the dwell delays.
    norms = np.ones((30, 1))
    norms[:10] = 0.0
    settings = {"threshold": 0.1, "ema_decay": 0.0, "probe_every": 1}
    masks, _, _ = decisions(norms, warmup=9, min_dwell=6, **settings)
    frozen = np.flatnonzero(masks[:, 0])
    np.testing.assert_array_equal(frozen, np.arange(9, 15))


def test_hysteresis_keeps_a_leaf_that_hovers():
    norms = np.full((60, 1), 0.5)
    norms[30:] = 1.5  # above the threshold, below twice the threshold
    settings = {"threshold": 1.0, "ema_decay": 0.0, "min_dwell": 0, "probe_every": 1}
    assert decisions(norms, **settings)[0][2:].all()
    masks, _, _ = decisions(norms, hysteresis=1.0, **settings)
    assert not masks[31:].any()


def test_frozen_leaves_are_looked_at_in_probes_only():
    # Loud from step 6 on; probes at 8, 12, ...; anything before is not to be trusted.
    norms = np.full((12, 1), 0.01)
    norms[6:] = 10.0
    settings = {"threshold": 0.1, "min_dwell": 0, "ema_decay": 0.0}
    masks, probes, _ = decisions(norms, **settings)
    np.testing.assert_array_equal(np.flatnonzero(probes) + 1, [4, 8, 12])
    np.testing.assert_array_equal(np.flatnonzero(masks[:, 0]), np.arange(2, 8))
    norms[8] = np.nan  # a probe that went wrong tells nothing
    masks, _, _ = decisions(norms, **settings)
    assert masks[2:12].all()


def test_what_is_not_observed_may_be_anything():
    rng = np.random.default_rng(1)
    norms = rng.uniform(0, 0.2, (100, 3)).astype(np.float32)
    masks, probes, _ = decisions(norms, threshold=0.1)
    assert masks.any() and not masks.all()
    frozen = np.vstack([np.zeros((1, 3), bool), masks[:-1]])
    looked = np.concatenate([[True], probes[:-1]])[:, None]
    garbled = np.where(frozen & ~looked, 1e9, norms)
    np.testing.assert_array_equal(decisions(garbled, threshold=0.1)[0], masks)


def test_a_zero_threshold_freezes_nothing_and_a_large_one_everything():
    assert not decisions(np.zeros((20, 3)), threshold=0.0)[0].any()
    assert decisions(np.ones((20, 3)), threshold=1e30)[0][-1].all()


def test_never_observed_never_frozen():
    assert not decisions(np.full((20, 2), np.nan), threshold=1.0)[0].any()


def test_a_leaf_first_seen_late_starts_its_reference_there():
    norms = np.full((30, 1), np.nan)
    norms[5:] = 4.0
    norms[15:] = 0.1
    settings = {"threshold": 0.5, "relative_to": "initial", "ema_decay": 0.0}
    masks, _, state = decisions(norms, **settings)
    assert state.freeze_initial[0] == 4.0
    np.testing.assert_array_equal(np.flatnonzero(masks[:, 0]), np.arange(15, 30))


def test_max_fraction_takes_the_quietest_first():
    norms = np.tile([0.03, 0.01, 0.02, 9.0], (10, 1))
    sizes = [30, 20, 30, 20]
    for share, expected in (
        (0.0, [False] * 4),
        (0.2, [False, True, False, False]),
        (0.5, [False, True, True, False]),
        (0.8, [True, True, True, False]),
        (1.0, [True, True, True, False]),
    ):
        masks, _, _ = decisions(norms, sizes, threshold=0.1, max_fraction=share)
        np.testing.assert_array_equal(masks[-1], expected)


def test_max_fraction_counts_what_is_frozen_already():
    norms = np.tile([0.01, 9.0, 9.0], (20, 1))
    norms[10:, 1:] = 0.001
    masks, _, _ = decisions(
        norms, [40, 40, 20], threshold=0.1, max_fraction=0.7, ema_decay=0.0
    )
    np.testing.assert_array_equal(masks[5], [True, False, False])
    # Leaf 1 does not fit beside leaf 0; leaf 2, as quiet but later, waits behind it.
    np.testing.assert_array_equal(masks[-1], [True, False, False])


def test_vmap_equals_a_loop():
    norms = np.random.default_rng(2).uniform(0, 0.2, (3, 40, 2)).astype(np.float32)
    config = Freeze(threshold=0.1, **QUICK)
    init, layout = init_freezing([1.0, 1.0], config), config.layout([1.0, 1.0])

    def run(norms):
        def step(state, row):
            state = observe(state, row, config, layout)
            return state, state.freeze_mask

        return jax.lax.scan(step, init, norms)[1]

    batched = jax.vmap(run)(jnp.asarray(norms))
    for one, many in zip(norms, batched, strict=True):
        np.testing.assert_array_equal(run(jnp.asarray(one)), many)


def test_leaf_norms():
    tree = {
        "a": jnp.full((3, 4), 300.0, jnp.float16),  # its square overflows float16
        "b": jnp.asarray([3 + 4j], jnp.complex64),
        "c": jnp.asarray([jnp.nan]),
    }
    norms = _trees.leaf_norms(tree)
    assert norms.dtype == jnp.float32
    np.testing.assert_allclose(norms, [300 * np.sqrt(12), 5.0, np.nan], rtol=1e-6)
    assert _trees.leaf_norms({}).shape == (0,)


PARAMS = {
    "quiet": jnp.asarray([[1.0, -2.0], [3.0, -0.5]]),
    "loud": jnp.asarray([0.5, -1.5]),
}


def gradient(params, t, quiet=1e-6):
    wave = jnp.sin(t * 1.0)
    return {
        "quiet": params["quiet"] * quiet * (1 + wave),
        "loud": params["loud"] + wave,
    }


def run(tx, steps=12, params=PARAMS, **extra):
    """Parameters and states after every step."""

    @jax.jit
    def step(params, state, t):
        grads = gradient(params, t)
        more = {"grad": grads} if extra.get("grad") else {}
        updates, state = tx.update(grads, state, params, **more)
        return optax.apply_updates(params, updates), state

    state, history = tx.init(params), []
    for t in range(steps):
        params, state = step(params, state, t)
        history.append((params, state))
    return history


INNERS = {
    "sgd": optax.sgd(0.1, 0.9),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
    "amsgrad": optax.amsgrad(0.1),
    "adabelief": optax.adabelief(0.1),
    "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2),
    "lion": optax.lion(0.1),
    "lamb": optax.lamb(0.1),
    "rmsprop": optax.rmsprop(0.1, momentum=0.9),
    "adan": optax.adan(0.1, weight_decay=0.1),
    "novograd": optax.novograd(0.1),
    "sm3": optax.sm3(0.1),
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)),
    "masked": optax.chain(
        optax.masked(optax.adam(1.0), {"quiet": True, "loud": False}), optax.sgd(0.1)
    ),
    "partition": optax.partition(
        {"a": optax.adam(0.1), "b": optax.sgd(0.1, 0.9)}, {"quiet": "a", "loud": "b"}
    ),
    "inject": optax.inject_hyperparams(optax.adam)(0.1),
    "lbfgs": optax.lbfgs(0.1, linesearch=None),
}


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


def test_skipping_the_gradients_of_frozen_leaves_changes_nothing():
    # The norm of the whole gradient couples the leaves.
    inner = optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.1))
    tx = freeze_by_grad_norm(1e-3, inner, **QUICK)

    def follow(skipping):
        @jax.jit
        def step(params, state, t):
            grads = gradient(params, t, quiet=jnp.where(t < 3, 1e-6, 1e-4))
            law = state.freeze_state
            mask = freezing.mask_tree(law, params)
            if skipping:
                grads = jax.tree.map(
                    lambda g, f: jnp.where(f & ~law.freeze_probing, 1e6, g), grads, mask
                )
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        params, state = PARAMS, tx.init(PARAMS)
        for t in range(12):
            params, state = step(params, state, t)
        assert bool(state.freeze_state.freeze_mask[1])
        return params, state

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(close, follow(True), follow(False))


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


def test_a_leaf_wakes_in_a_probe_only():
    # Frozen at step 5, loud from 6 on, seen in the probe at 8; its dwell is over at 10,
    # where its gradient may have been skipped.
    norms = np.full((20, 1), 0.01)
    norms[6:] = 10.0
    settings = {"threshold": 0.1, "min_dwell": 5, "ema_decay": 0.0, "warmup": 2}
    masks, _, _ = decisions(norms, **settings)
    np.testing.assert_array_equal(np.flatnonzero(masks[:, 0]), np.arange(5, 12))


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


def test_skip_mask_is_off_in_probes():
    tx = freeze_by_grad_norm(1e-3, optax.adam(0.1), **QUICK)
    history = run(tx)
    for t, (params, state) in enumerate(history):
        frozen = frozen_mask(state, params)
        skip = freezing.skip_mask(state, params)
        probe = (t + 1) % QUICK["probe_every"] == 0
        assert bool(skip["quiet"]) == (bool(frozen["quiet"]) and not probe)
    assert bool(frozen["quiet"])


@pytest.mark.parametrize("inner", ["filters.adamw", "optax.sgd"])
def test_skipped_or_only_masked_the_parameters_are_the_same_to_the_bit(inner):
    # Live freezing by the law, with revivals: the loss is quiet and loud by turns.
    import adaptive_optax as ao

    factory = {"filters.adamw": ao.filters.adamw, "optax.sgd": optax.sgd}[inner]
    weights = [jax.random.normal(jax.random.key(i), (8, 8)) / 3 for i in range(3)]
    start = {"embed": weights[0], "body": weights[1], "head": weights[2]}
    tx = ao.adaptive_scheduler(
        factory,
        learning_rate=3e-2,
        freeze=ao.Freeze(
            0.5,
            relative_to="initial",
            warmup=10,
            min_dwell=5,
            probe_every=5,
            probe_steps=2,
            ema_decay=0.5,
            hysteresis=1.2,
            never="head",
        ),
        recovery=False,
    )

    def loss(params, x, loudness):
        hidden = jnp.tanh(x @ params["embed"])
        hidden = jnp.tanh(hidden @ params["body"])
        error = jnp.square(hidden @ params["head"] - jnp.sin(x))
        return loudness * jnp.mean(error)

    vg = ao.frozen_value_and_grad(loss, min_flops=0.0, recompute=False)

    def train(skipping):
        def step(carry, now):
            params, state = carry
            skip = ao.skip_mask(state, params)
            if skipping:
                value, grads = vg(params, skip, *now)
            else:
                value, grads = jax.value_and_grad(loss)(params, *now)
            updates, state = tx.update(grads, state, params, value=value)
            params = ao.apply_updates(params, updates, ao.frozen_mask(state, params))
            return (params, state), (value, state.freezing.freeze_mask)

        x = jax.random.normal(jax.random.key(5), (200, 16, 8))
        loudness = jnp.repeat(jnp.asarray([1.0, 0.02, 5.0, 0.02]), 50)
        carry = start, tx.init(start)
        return jax.jit(lambda c: jax.lax.scan(step, c, (x, loudness)))(carry)

    ours, theirs = train(True), train(False)
    # The loss itself is another matter: XLA may round its last bit another way.
    (params, state), (_, masks) = ours
    (expected, other), (_, others) = theirs
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    np.testing.assert_array_equal(masks, others)
    jax.tree.map(np.testing.assert_array_equal, state.inner_state, other.inner_state)
    change = np.diff(np.asarray(ours[1][1]).astype(int), axis=0)
    assert (change > 0).sum() >= 3 and (change < 0).sum() >= 1


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
