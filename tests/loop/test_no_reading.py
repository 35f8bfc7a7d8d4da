"""What is not finite: a loss says nothing, and a gradient is not learnt from."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.loop.running import ADAM, PARAMS, run, scan

STEPS = 300
MINIMA = np.float32(np.random.default_rng(0).normal(size=(STEPS, 8)))
CURVATURES = np.geomspace(0.3, 3.0, 8).astype(np.float32)
BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
FED = pytest.mark.parametrize("name", ["value", "reward"])


@functools.cache
def trainer(tx, noise):
    """Train on a noisy quadratic: the last state, and every distance to its minimum."""

    def away(params, minimum):
        return params - noise * minimum

    def step(carry, fed):
        params, state = carry
        minimum, spoils = fed
        gap = away(params, minimum)
        loss = 1.0 + 0.5 * jnp.sum(CURVATURES * gap**2)
        updates, state = tx.update(CURVATURES * gap, state, params, value=loss + spoils)
        params = optax.apply_updates(params, updates)
        return (params, state), 0.5 * jnp.sum(CURVATURES * params**2)

    @jax.jit
    def train(spoils):
        start = jnp.full(8, 3.0)
        (_, state), losses = jax.lax.scan(
            step, (start, tx.init(start)), (MINIMA, spoils)
        )
        return state, losses

    return train


def four_in_five(bad):
    """What is added to the loss: 0 at every fifth step, else what is not finite."""
    return np.where(np.arange(STEPS) % 5 == 0, 0.0, bad).astype(np.float32)


class TestNoReading:
    """A loss or a reward that is not finite, with a gradient that is."""

    @BAD
    @pytest.mark.parametrize("mode", ["nudge", "safe"])
    @pytest.mark.parametrize("noise", [0.0, 0.3])
    def test_a_run_with_one_loss_in_five_trains_as_well(self, noise, mode, bad):
        # Each was taken for a step that had failed: the run stood still, and went back.
        train = trainer(scheduler(mode), noise)
        state, losses = train(four_in_five(bad))
        _, expected = train(four_in_five(0.0))
        judges = state.recovery.judges
        assert judges.trial.restores == judges.skip.skipped == 0
        assert judges.audit.audit_failures == judges.audit.audit_left == 0
        assert list(state.sensor.nonfinite) == [STEPS * 4 // 5, 0, 0]
        assert np.isfinite(losses).all() and losses[-50:].mean() < losses[0] / 100
        assert losses[-50:].mean() < 1.5 * expected[-50:].mean() + 1e-4 * losses[0]

    def test_without_any_loss_it_trains_too(self):
        # Before the first loss there is no warm-up, as in a run that is fed none.
        train = trainer(scheduler("nudge"), 0.3)
        state, losses = train(np.full(STEPS, np.nan, np.float32))
        assert losses[-50:].mean() < losses[0] / 100
        assert state.recovery.judges.trial.restores == 0
        assert float(state.lr_scale) == 1.0

    @BAD
    @FED
    def test_the_step_is_taken_as_with_a_reading(self, name, bad):
        _, states = run(ADAM, 3, reward=1.0)
        ends = []
        for fed in (1.0, bad):
            feedback = {
                "value": np.ones(1),
                "reward": np.ones(1),
                name: np.full(1, fed),
            }
            updates, after = scan(ADAM, PARAMS, states[-1], [PARAMS], **feedback)
            ends.append((updates, after[-1].inner_state, after[-1].lr_scale))
        chex.assert_trees_all_equal(*ends)
        assert all(jax.tree.leaves(jax.tree.map(jnp.any, ends[1][0])))
        counted = after[-1].sensor.nonfinite - states[-1].sensor.nonfinite
        assert list(counted) == [name == "value", name == "reward", 0]

    @FED
    def test_the_average_takes_its_parameters(self, name):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, recovery=False)
        state = tx.init(PARAMS)
        _, state = tx.update(PARAMS, state, PARAMS, **{name: jnp.float32(jnp.nan)})
        assert state.averaging.average_count == 1


class TestNoLearning:
    """A gradient that is not finite."""

    @pytest.mark.parametrize("recovery", [False, True])
    @pytest.mark.parametrize("frozen", [False, True])
    @pytest.mark.parametrize(
        "inner", [optax.adam, functools.partial(optax.sgd, momentum=0.9)]
    )
    def test_the_inner_optimizer_is_held_to_the_bit(self, inner, frozen, recovery):
        # It saw a gradient of zeros: its momentum decayed and its bias count went on.
        threshold = 1e-6 if frozen else None
        tx = ao.adaptive_scheduler(
            inner, 0.1, recovery=recovery, average=False, freeze_threshold=threshold
        )
        _, states = run(tx, 3)
        grads = PARAMS | {"b": PARAMS["b"].at[1].set(jnp.nan)}
        updates, after = scan(tx, PARAMS, states[-1], [grads], value=np.ones(1))
        chex.assert_trees_all_equal(after[-1].inner_state, states[-1].inner_state)
        chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, updates))
        assert after[-1].sensor.nonfinite[2] == 1
        _, later = scan(tx, PARAMS, after[-1], [PARAMS], value=np.ones(1))
        _, expected = scan(tx, PARAMS, states[-1], [PARAMS], value=np.ones(1))
        chex.assert_trees_all_equal(later[-1].inner_state, expected[-1].inner_state)

    @BAD
    def test_an_infinite_gradient_is_no_better(self, bad):
        _, states = run(ADAM, 3)
        grads = jax.tree.map(lambda p: jnp.full_like(p, bad), PARAMS)
        updates, after = scan(ADAM, PARAMS, states[-1], [grads], value=np.ones(1))
        chex.assert_trees_all_equal(after[-1].inner_state, states[-1].inner_state)
        chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, updates))

    def test_a_batch_far_outside_holds_it_too(self):
        tx = ao.adaptive_scheduler(optax.adam, 0.1, mode="safe", average=False)
        values = np.ones(80, np.float32)
        values[70] = 100.0
        updates, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 80, value=values)
        assert states[-1].recovery.judges.skip.skipped == 1
        chex.assert_trees_all_equal(states[70].inner_state, states[69].inner_state)
        for leaf in jax.tree.leaves(updates):
            assert not leaf[70].any() and leaf[71].any()

    def test_a_step_without_a_loss_is_skipped_as_well(self):
        tx = ao.adaptive_scheduler(optax.adam, 0.1)
        _, states = run(tx, 3, value=None)
        grads = jax.tree.map(lambda p: p * jnp.nan, PARAMS)
        updates, after = scan(tx, PARAMS, states[-1], [grads])
        chex.assert_trees_all_equal(after[-1].inner_state, states[-1].inner_state)
        chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, updates))


@functools.cache
def scheduler(mode):
    """Adam with all that the default has, in a mode."""
    return ao.adaptive_scheduler(optax.adam, 0.05, mode=mode)
