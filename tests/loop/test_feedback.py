"""What may be fed, and what follows where nothing is."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax._types import Rule
from tests.loop.running import BARE, PARAMS, SAFE, scan


class TestFeedback:
    def test_loss_is_another_name_of_value(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, rule=ao.rules.literal(), **BARE)
        state = tx.init(PARAMS)
        one = tx.update(PARAMS, state, PARAMS, value=jnp.float32(2.0))
        other = tx.update(PARAMS, state, PARAMS, loss=jnp.float32(2.0))
        chex.assert_trees_all_equal(one, other)

    def test_both_names_at_once_are_refused(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1)
        with pytest.raises(ValueError, match="`value` and `loss` are two names"):
            tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0, loss=1.0)

    def test_a_reward_alone_closes_the_loop(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, rule=ao.rules.literal(), **BARE)
        state = tx.init(PARAMS)
        for reward in (1.0, 2.0):
            _, state = tx.update(PARAMS, state, PARAMS, reward=reward)
        assert float(state.lr_scale) > 1.0

    def test_the_loss_and_all_else_reach_the_inner_optimizer(self):
        seen = {}

        def update(updates, state, params=None, **extra):
            seen.update(extra)
            return updates, state

        inner = optax.GradientTransformationExtraArgs(lambda params: (), update)
        tx = ao.adaptive_scheduler(inner, **BARE)
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, loss=2.0, reward=1.0, obj_fn=len)
        assert seen == {"value": 2.0, "obj_fn": len}

    @pytest.mark.parametrize("name", ["value", "loss", "reward"])
    @pytest.mark.parametrize("shape", [(1,), (4,), (2, 2)])
    def test_a_feedback_that_is_no_scalar_is_quoted(self, name, shape):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1)
        state = tx.init(PARAMS)
        quoted = str(shape).replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=f"must be a scalar, got shape {quoted}"):
            tx.update(PARAMS, state, PARAMS, **{name: jnp.ones(shape)})

    @pytest.mark.parametrize("wrong", ["low", 1 + 2j, jnp.complex64(1.0)])
    def test_a_feedback_that_is_no_number_is_quoted(self, wrong):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1)
        with pytest.raises(TypeError, match="`value` must be a real number, got"):
            tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=wrong)

    def test_the_average_waits_for_the_next_step_that_is_taken(self):
        # With no judge to call the others unhealthy, either.
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, recovery=False)
        state, update, counts = tx.init(PARAMS), jax.jit(tx.update), []
        for factor in (1.0, 1.0, np.nan, np.nan, 1.0):
            grads = jax.tree.map(lambda p, factor=factor: factor * p, PARAMS)
            _, state = update(grads, state, PARAMS, value=1.0)
            counts.append(int(state.averaging.average_count))
        assert counts == [1, 1, 1, 1, 2]

    @pytest.mark.parametrize("rate,sign", [(4.0, 1.0), (2.0, -1.0)])
    def test_entries_that_overflow_are_not_taken(self, rate, sign):
        # Of the step itself, and of the parameter; from infinity nothing returns.
        params = {"x": jnp.array([3e4, -3e4, 1.0], jnp.float16)}
        tx = ao.adaptive_scheduler(optax.sgd, rate, **BARE)
        grads = {"x": sign * params["x"]}
        updates, state = tx.update(grads, tx.init(params), params, value=1.0)
        after = optax.apply_updates(params, updates)["x"]
        chex.assert_trees_all_equal(after[:2], params["x"][:2])
        assert after[2] == 1.0 - sign * rate and state.nonfinite_steps == 1

    def test_a_bfloat16_parameter_stays_in_its_range_too(self):
        largest = float(jnp.finfo(jnp.bfloat16).max)
        params = {"x": jnp.full(2, largest, jnp.bfloat16)}
        tx = ao.adaptive_scheduler(optax.sgd, 1e20, **BARE)
        grads = {"x": jnp.array([-1e18, 1e18], jnp.float32)}
        updates, state = tx.update(grads, tx.init(params), params, value=1.0)
        after = optax.apply_updates(params, updates)["x"]
        assert after[0] == largest and 0 < after[1] < largest
        assert state.nonfinite_steps == 1

    @pytest.mark.parametrize("frozen", [False, True])
    def test_entries_that_the_inner_optimizer_spoils_are_left_out(self, frozen):
        # Adam without an epsilon divides 0 by 0 where there never was a gradient.
        params = {"seen": jnp.full(4, 2.0), "unseen": jnp.ones(5000)}
        tx = ao.adaptive_scheduler(
            lambda learning_rate: optax.adam(learning_rate, eps=0.0),
            0.1,
            freeze_threshold=1e-6 if frozen else None,
        )

        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(lambda p: jnp.sum(p["seen"] ** 2))(params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), state.frozen_fraction

        carry = params, tx.init(params)
        (after, state), asleep = jax.jit(lambda c: jax.lax.scan(step, c, length=300))(
            carry
        )
        chex.assert_trees_all_equal(after["unseen"], params["unseen"])
        assert jnp.abs(after["seen"]).max() < 0.1
        chex.assert_tree_all_finite(ao.eval_params(state, after))
        assert (
            state.recovery.judges.trial.restores == 0 and state.sensor.nonfinite[2] == 0
        )
        assert state.nonfinite_steps == jnp.sum(asleep == 0)
        assert bool(asleep[-1] > 0.9) == frozen

    @pytest.mark.parametrize("which", ["value", "reward"])
    def test_the_judges_listen_to_the_reward_where_there_is_one(self, which):
        # The surrogate loss of a policy gradient says nothing of success.
        wave = np.float32(0.05 * np.cos(np.arange(90) * 2.4))
        fed = {"value": 5.0 + wave, "reward": 3.0 - wave}
        for far in (slice(65, 70), slice(75, 80)):
            fed[which][far] += {"value": 1e4, "reward": -1e4}[which]
        _, states = scan(SAFE, PARAMS, SAFE.init(PARAMS), [PARAMS] * 90, **fed)
        judges, heard = states[80].recovery.judges, which == "reward"
        assert judges.trial.restores == 2 * heard
        assert judges.skip.skipped == 10 * heard
        assert float(states[80].lr_scale) == pytest.approx(0.2 if heard else 1.0)

    def test_the_default_law_takes_a_reward_for_the_negative_loss(self):
        rewards = np.float32(np.linspace(0.0, 1.0, 90) ** 2)
        ends = []
        for fed in ({"value": -rewards}, {"value": rewards * 0, "reward": rewards}):
            tx = ao.adaptive_scheduler(optax.sgd, 1e-3, mode="search", average=False)
            _, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 90, **fed)
            ends.append(states[-1])
        assert float(ends[0].lr_scale) > 2.0
        assert float(ends[1].lr_scale) == float(ends[0].lr_scale)
        # Telemetry still tells them apart.
        assert ao.snapshot(ends[1])["loss"] == 0.0

    def test_a_rule_of_ones_own_hears_both(self):
        heard = []

        def update(signals, state):
            heard.append((signals.loss.value, signals.reward.value))
            return jnp.zeros((), jnp.float32), state

        tx = ao.adaptive_scheduler(optax.sgd, 0.1, rule=Rule(lambda: (), update))
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=2.0, reward=3.0)
        assert heard == [(2.0, 3.0)]
