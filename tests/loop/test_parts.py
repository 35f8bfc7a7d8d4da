"""Parts that are off cost nothing, and a population is one vmap."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.loop.running import BARE, PARAMS, run


class TestParts:
    def test_the_average_is_the_evaluated_one(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, recovery=False)
        _, states = run(tx, 3)
        mean = ao.eval_params(states[-1], PARAMS)
        chex.assert_trees_all_close(mean, PARAMS)
        with pytest.raises(ValueError, match="average=True"):
            bare = ao.adaptive_scheduler(optax.sgd, 0.1, **BARE)
            ao.eval_params(bare.init(PARAMS), PARAMS)

    def test_a_frozen_leaf_does_not_move_by_a_bit(self):
        # Weight decay and dither included.
        tx = ao.adaptive_scheduler(
            functools.partial(optax.adamw, weight_decay=0.1),
            0.1,
            sigma=1e-2,
            freeze_threshold=1e-3,
            **BARE,
        )
        params, update = PARAMS, jax.jit(tx.update)
        state = tx.init(params)
        for t in range(160):
            if t == 120:
                held = params["b"]
            grads = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
            updates, state = update(grads, state, params, value=1.0)
            params = optax.apply_updates(params, updates)
        mask = ao.frozen_mask(state, params)
        assert bool(mask["b"]) and not bool(mask["w"])
        np.testing.assert_array_equal(params["b"], held)
        assert float(state.frozen_fraction) == pytest.approx(3 / 9)

    def test_a_state_costs_little_beyond_the_inner_one(self):
        params = jax.eval_shape(
            lambda: {"emb": jnp.zeros((2048, 256)), "w": jnp.zeros((6, 256, 3072))}
        )

        def size(tree):
            return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

        tx = ao.adaptive_scheduler(optax.adam, 1e-3, **BARE)
        state = jax.eval_shape(tx.init, params)
        assert size(state) - size(state.inner_state) <= 0.045 * size(params)

    def test_without_average_and_recovery_no_parameters_are_needed(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, **BARE)
        updates, _ = tx.update(PARAMS, tx.init(PARAMS), value=1.0)
        chex.assert_trees_all_close(updates, jax.tree.map(lambda p: -0.1 * p, PARAMS))

    @pytest.mark.parametrize(
        "options",
        [
            {"recovery": False},
            {"average": False},
            {**BARE, "sigma": 1e-3},
        ],
        ids=["average", "recovery", "dither"],
    )
    def test_the_parts_that_need_parameters_say_so(self, options):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, **options)
        with pytest.raises(ValueError, match=r"needs the parameters, got params=None"):
            tx.update(PARAMS, tx.init(PARAMS), value=1.0)


class TestPopulation:
    def test_a_population_of_learning_rates_is_one_vmap(self):
        def end(rate, seed):
            tx = ao.adaptive_scheduler(optax.sgd, rate, mode="search", average=False)
            noise = jax.random.normal(jax.random.key(seed), (80, 3))

            def step(carry, shake):
                x, state = carry
                value, grads = jax.value_and_grad(lambda x: jnp.sum((x - shake) ** 2))(
                    x
                )
                updates, state = tx.update(grads, state, x, value=value)
                return (optax.apply_updates(x, updates), state), state.learning_rate

            start = jnp.full(3, 5.0)
            return jax.lax.scan(step, (start, tx.init(start)), 0.1 * noise)

        rates = jnp.array([1e-3, 1e-2, 3.0])
        seeds = jnp.arange(3)
        (together, _), path = jax.jit(jax.vmap(end))(rates, seeds)
        one_by_one = jax.jit(end)
        for i in range(3):
            (alone, _), alone_path = one_by_one(rates[i], seeds[i])
            np.testing.assert_allclose(together[i], alone, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(path[i], alone_path, rtol=1e-4)
        # Every rate warms up; one that is too high is found out; one that is too low
        # climbs.
        begins = [1e-4, 4.5e-4]
        np.testing.assert_allclose(path[0, [0, 7]], begins, rtol=1e-5)
        assert path[2, -1] < 1.0 and path[0, -1] > 2e-3

    def test_gains_may_be_traced(self):
        def first(rate, momentum, sigma):
            tx = ao.adaptive_scheduler(
                optax.sgd, rate, momentum=momentum, sigma=sigma, **BARE
            )
            return tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=1.0)[0]["b"]

        gains = jnp.array([0.1, 0.2]), jnp.array([0.0, 0.9]), jnp.array([0.0, 0.0])
        np.testing.assert_allclose(
            jax.jit(jax.vmap(first))(*gains), [[-0.1] * 3, [-0.2] * 3], rtol=1e-6
        )
