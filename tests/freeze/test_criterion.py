"""When entries freeze and when they wake, by their norms alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax import _trees
from adaptive_optax.freeze.transform import Freeze, init_freezing, observe
from tests.freeze.driving import QUICK, decisions


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


def test_a_leaf_wakes_in_a_probe_only():
    # Frozen at step 5, loud from 6 on, seen in the probe at 8; its dwell is over at 10,
    # where its gradient may have been skipped.
    norms = np.full((20, 1), 0.01)
    norms[6:] = 10.0
    settings = {"threshold": 0.1, "min_dwell": 5, "ema_decay": 0.0, "warmup": 2}
    masks, _, _ = decisions(norms, **settings)
    np.testing.assert_array_equal(np.flatnonzero(masks[:, 0]), np.arange(5, 12))
