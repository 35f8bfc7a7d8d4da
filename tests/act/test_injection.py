"""Three ways in which gains reach an inner optimizer, and what cannot be reached."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.act.injecting import PARAMS, adapt, gains

GRADS = jax.tree.map(lambda p: p + 0.5, PARAMS)


def two_steps(adapter, now, params=PARAMS, grads=GRADS):
    state = adapter.init(params)
    _, state = adapter.update(grads, state, params, now)
    return adapter.update(grads, state, params, now)


def two_plain_steps(tx, params=PARAMS, grads=GRADS):
    state = tx.init(params)
    _, state = tx.update(grads, state, params)
    return tx.update(grads, state, params)


class TestFactory:
    def test_the_rate_is_an_argument_of_the_call(self):
        seen = two_steps(adapt(optax.adamw), gains(0.03, 7.0))
        chex.assert_trees_all_equal(
            seen, two_plain_steps(optax.adamw(jnp.float32(0.03)))
        )

    @pytest.mark.parametrize(
        "factory, argument",
        [(optax.sgd, "momentum"), (optax.adam, "b1"), (optax.rmsprop, "momentum")],
    )
    def test_the_momentum_is_found_by_its_usual_names(self, factory, argument):
        adapter = adapt(factory, momentum_wanted=True)
        seen = two_steps(adapter, gains(0.03, momentum=0.7))
        expected = factory(jnp.float32(0.03), **{argument: jnp.float32(0.7)})
        chex.assert_trees_all_equal(seen, two_plain_steps(expected))

    def test_the_first_of_a_pair_of_betas_is_the_momentum(self):
        def factory(learning_rate, betas=(0.9, 0.99)):
            return optax.adam(learning_rate, *betas)

        adapter = adapt(factory, momentum_wanted=True)
        expected = optax.adam(jnp.float32(0.1), jnp.float32(0.5), 0.99)
        seen = two_steps(adapter, gains(momentum=0.5))
        chex.assert_trees_all_equal(seen, two_plain_steps(expected))
        assert adapter.momentum == 0.9

    def test_an_unusual_name_can_be_told(self):
        def factory(learning_rate, drag=0.3):
            return optax.sgd(learning_rate, drag)

        adapter = adapt(factory, momentum_wanted=True, momentum_arg="drag")
        expected = optax.sgd(jnp.float32(0.1), jnp.float32(0.8))
        seen = two_steps(adapter, gains(momentum=0.8))
        chex.assert_trees_all_equal(seen, two_plain_steps(expected))
        assert adapter.momentum == 0.3

    def test_a_partial_keeps_what_it_was_given(self):
        factory = functools.partial(optax.adamw, weight_decay=0.5, b1=0.8)
        seen = two_steps(adapt(factory), gains(0.1))
        expected = optax.adamw(jnp.float32(0.1), 0.8, weight_decay=0.5)
        chex.assert_trees_all_equal(seen, two_plain_steps(expected))
        assert adapt(factory).momentum == 0.8

    def test_a_factory_of_any_keywords_is_given_a_learning_rate(self):
        def factory(**options):
            return optax.sgd(**options)

        seen = two_steps(adapt(factory), gains(0.2))
        chex.assert_trees_all_equal(seen, two_plain_steps(optax.sgd(jnp.float32(0.2))))

    def test_polyaks_largest_rate_is_its_rate(self):
        adapter = adapt(optax.polyak_sgd)
        updates, _ = adapter.update(
            GRADS, adapter.init(PARAMS), PARAMS, gains(1e-3), value=jnp.float32(1e6)
        )
        expected = jax.tree.map(lambda g: -jnp.float32(1e-3) * g, GRADS)
        chex.assert_trees_all_close(updates, expected, rtol=1e-5)

    def test_the_default_momentum_is_known(self):
        assert adapt(optax.adam).momentum == 0.9
        assert adapt(optax.sgd).momentum == 0.0  # Optax's None
        assert adapt(lambda learning_rate: optax.sgd(learning_rate)).momentum in (
            0.0,
            None,
        )

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_low_precision_stays_and_is_computed_in_float32(self, dtype):
        params, grads = (
            jax.tree.map(lambda x: x.astype(dtype), tree) for tree in (PARAMS, GRADS)
        )
        adapter = adapt(optax.adam)
        state = adapter.init(params)
        updates, after = adapter.update(grads, state, params, gains(0.1))
        assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)
        # The rate itself is not rounded: 0.1 is 0.10009765625 in bfloat16.
        raw, _ = optax.adam(jnp.float32(0.1)).update(grads, state, params)
        expected = jax.tree.map(lambda u: u.astype(dtype), raw)
        chex.assert_trees_all_equal(updates, expected)
        chex.assert_trees_all_equal_dtypes(updates, params)

    def test_extra_arguments_reach_it(self):
        seen = {}

        def factory(learning_rate):
            def update(updates, state, params=None, **extra):
                seen.update(extra)
                return updates, state

            del learning_rate
            return optax.GradientTransformationExtraArgs(lambda params: (), update)

        adapt(factory).update(GRADS, (), PARAMS, gains(), value=1.0, other="x")
        assert seen == {"value": 1.0, "other": "x"}

    def test_one_that_takes_no_extra_arguments_gets_none(self):
        plain = optax.GradientTransformation(
            lambda params: (), lambda updates, state, params=None: (updates, state)
        )
        adapter = adapt(lambda learning_rate: plain)
        updates, _ = adapter.update(GRADS, (), PARAMS, gains(), value=1.0)
        chex.assert_trees_all_equal(updates, GRADS)


class TestBuilt:
    def test_its_updates_are_scaled(self):
        updates, _ = two_steps(adapt(optax.adam(0.1)), gains(9.0, scale=0.25))
        expected, _ = two_plain_steps(optax.adam(0.1))
        chex.assert_trees_all_equal(updates, jax.tree.map(lambda u: 0.25 * u, expected))

    def test_its_state_is_what_it_would_be_alone(self):
        _, state = two_steps(adapt(optax.adam(0.1)), gains(scale=0.25))
        chex.assert_trees_all_equal(state, two_plain_steps(optax.adam(0.1))[1])

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_low_precision_is_scaled_in_float32(self, dtype):
        # 0.7 rounded to bfloat16 first would be 0.703.
        params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
        adapter = adapt(optax.identity())
        updates, _ = adapter.update(
            params, adapter.init(params), params, gains(scale=0.7)
        )
        expected = jax.tree.map(
            lambda p: (jnp.float32(0.7) * p.astype(jnp.float32)).astype(dtype), params
        )
        chex.assert_trees_all_equal(updates, expected)

    def test_integer_updates_pass(self):
        adapter = adapt(optax.identity())
        updates, _ = adapter.update(jnp.arange(3), (), None, gains(scale=0.5))
        np.testing.assert_array_equal(updates, [0, 1, 2])

    def test_injected_hyperparameters_are_set_and_given_back(self):
        inner = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.5)
        adapter = adapt(inner, momentum_wanted=True)
        now = gains(scale=0.5, momentum=0.9)
        updates, state = two_steps(adapter, now)
        expected, _ = two_plain_steps(optax.sgd(jnp.float32(0.05), jnp.float32(0.9)))
        chex.assert_trees_all_close(updates, expected, rtol=1e-6)
        assert float(state.hyperparams["learning_rate"]) == np.float32(0.1)
        assert float(state.hyperparams["momentum"]) == np.float32(0.5)

    def test_an_injected_schedule_is_scaled_not_overwritten(self):
        inner = optax.inject_hyperparams(optax.sgd)(
            learning_rate=optax.linear_schedule(0.2, 0.0, 4)
        )
        adapter = adapt(inner)
        now, state = gains(scale=0.5), adapter.init(PARAMS)
        for t in range(3):
            updates, state = adapter.update(GRADS, state, PARAMS, now)
            expected = jax.tree.map(lambda g, t=t: -0.5 * 0.2 * (1 - t / 4) * g, GRADS)
            chex.assert_trees_all_close(updates, expected, rtol=1e-5)

    def test_one_that_only_looks_like_a_transformation_will_do(self):
        class Look:
            init = staticmethod(optax.sgd(0.1).init)
            update = staticmethod(optax.sgd(0.1).update)

        tx = ao.adaptive_scheduler(Look(), 0.1, average=False, recovery=False)
        updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
        chex.assert_trees_all_equal(updates, two_plain_steps(optax.sgd(0.1))[0])
