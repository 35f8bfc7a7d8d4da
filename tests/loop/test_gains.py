"""What reaches the inner optimizer: learning rate, momentum and noise."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.helpers import always
from tests.loop.running import BARE, ONES, PARAMS, rates, run, scan


class TestGains:
    @pytest.mark.parametrize("inner", [optax.sgd, optax.sgd(0.1)])
    def test_the_rate_multiplies_the_step(self, inner):
        tx = ao.adaptive_scheduler(inner, 0.1, rule=always(math.log(0.5)), **BARE)
        updates, states = run(tx, 3)
        np.testing.assert_allclose(rates(states), [0.05, 0.025, 0.0125], rtol=1e-6)
        np.testing.assert_allclose(updates["b"], -0.0125, rtol=1e-6)

    @pytest.mark.parametrize("delta, end", [(1.0, 0.3), (-1.0, 0.02)])
    @pytest.mark.parametrize("inner", [optax.sgd, optax.sgd(0.1)])
    def test_the_rate_stays_within_its_bounds(self, inner, delta, end):
        tx = ao.adaptive_scheduler(
            inner, 0.1, rule=always(delta), lr_bounds=(0.02, 0.3), **BARE
        )
        updates, states = run(tx, 5)
        assert rates(states)[-1] == pytest.approx(end, rel=1e-6)
        np.testing.assert_allclose(updates["b"], -end, rtol=1e-5)

    def test_the_slew_limits_each_step(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, rule=always(-1.0), slew=0.25, **BARE)
        _, states = run(tx, 4)
        expected = 0.1 * np.exp(-0.25 * np.arange(1, 5))
        np.testing.assert_allclose(rates(states), expected, rtol=1e-5)

    @pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e5])
    def test_a_schedule_of_any_size_is_multiplied(self, scale):
        # Bounds that were meant for a rate of 1 kept a schedule of 1e-5 from ever
        # going down.
        schedule = optax.linear_schedule(scale, 0.5 * scale, 4)
        tx = ao.adaptive_scheduler(optax.sgd, schedule, rule=always(-1.0), **BARE)
        _, states = run(tx, 4)
        expected = [float(schedule(t)) * math.exp(-(t + 1)) for t in range(4)]
        np.testing.assert_allclose(rates(states), expected, rtol=1e-5)

    def test_bounds_do_not_move_a_schedule_that_is_inside_them(self):
        # The multiplier was clipped to bounds of the rate: 10 times down at once.
        tx = ao.adaptive_scheduler(
            optax.sgd,
            lambda count: 1e-2,
            rule=always(-0.1),
            lr_bounds=(1e-4, 1e-1),
            **BARE,
        )
        _, states = run(tx, 1)
        assert rates(states)[0] == pytest.approx(1e-2 * math.exp(-0.1), rel=1e-5)

    @pytest.mark.parametrize("delta, end", [(-1.0, 4e-3), (1.0, 3e-2)])
    def test_bounds_limit_what_the_controller_makes_of_a_schedule(self, delta, end):
        tx = ao.adaptive_scheduler(
            optax.sgd,
            lambda count: 1e-2,
            rule=always(delta),
            lr_bounds=(4e-3, 3e-2),
            **BARE,
        )
        _, states = run(tx, 6)
        assert rates(states)[-1] == pytest.approx(end, rel=1e-5)

    def test_a_constant_schedule_is_the_number(self):
        ends = [
            run(ao.adaptive_scheduler(optax.sgd, rate, average=False), 12)
            for rate in (1e-2, optax.constant_schedule(1e-2))
        ]
        chex.assert_trees_all_close(ends[0][0], ends[1][0], rtol=1e-6)
        assert rates(ends[0][1]) == rates(ends[1][1])

    def test_a_schedules_own_value_is_never_clipped(self):
        tx = ao.adaptive_scheduler(
            optax.sgd, lambda count: 0.0 * count, rule=always(0.0), **BARE
        )
        updates, states = run(tx, 2)
        assert rates(states) == [0.0, 0.0]
        np.testing.assert_array_equal(updates["b"], 0.0)

    @pytest.mark.parametrize(
        "inner, options",
        [(optax.sgd, {"lr_bounds": (0.05, 0.2)}), (optax.sgd(0.1), {})],
    )
    def test_the_rate_rises_over_the_first_twenty_steps(self, inner, options):
        # A trial's first step is a tenth of the base rate, and no bound of it.
        tx = ao.adaptive_scheduler(inner, 0.1, mode="safe", average=False, **options)
        updates, states = scan(tx, PARAMS, tx.init(PARAMS), [PARAMS] * 25, value=ONES)
        expected = 0.1 * np.minimum((np.arange(25) + 2) / 20, 1)
        np.testing.assert_allclose(rates(states), expected, rtol=1e-6)
        np.testing.assert_allclose(
            updates["b"], -expected[:, None] * np.ones(3), rtol=1e-5
        )
        assert {float(state.lr_scale) for state in states} == {1.0}

    def test_a_schedule_rises_with_the_warm_up_as_well(self):
        schedule = optax.linear_schedule(1e-2, 0.0, 100)
        tx = ao.adaptive_scheduler(optax.sgd, schedule, mode="safe", average=False)
        _, states = run(tx, 25)
        expected = [float(schedule(t)) * min((t + 2) / 20, 1) for t in range(25)]
        np.testing.assert_allclose(rates(states), expected, rtol=1e-5)

    def test_a_schedule_that_rises_is_not_multiplied(self):
        # A loss that stands still during a user's own warm-up is no reason to climb.
        schedule = optax.warmup_constant_schedule(0.0, 1e-2, 30)
        tx = ao.adaptive_scheduler(optax.sgd, schedule, average=False)
        _, states = run(tx, 60)
        scales = np.asarray([float(s.lr_scale) for s in states])
        np.testing.assert_array_equal(scales[:30], 1.0)
        assert scales[-1] > 2.0

    def test_nothing_warms_up_where_nothing_is_on_probation(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, recovery=False, average=False)
        assert rates(run(tx, 2)[1]) == [np.float32(0.1)] * 2
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, average=False)
        assert rates(run(tx, 2, value=None)[1]) == [np.float32(0.1)] * 2

    def test_a_known_horizon_ends_at_zero(self):
        tx = ao.adaptive_scheduler(optax.sgd, 0.1, mode="safe", total_steps=20, **BARE)
        updates, states = run(tx, 22)
        expected = 0.1 * np.clip((20 - np.arange(22)) / 6, 0, 1)
        np.testing.assert_allclose(rates(states), expected, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(updates["b"], 0.0)

    @pytest.mark.parametrize("inner", [optax.sgd, optax.sgd(0.1)])
    def test_a_known_horizon_holds_the_multiplier_at_its_end(self, inner):
        # The rate then follows the line alone.
        tx = ao.adaptive_scheduler(inner, 0.1, rule=always(0.1), total_steps=20, **BARE)
        _, states = run(tx, 20)
        scales = np.array([float(state.lr_scale) for state in states])
        np.testing.assert_array_equal(scales[14:], scales[14])

    @pytest.mark.parametrize("factory", [optax.sgd, optax.adam, optax.lion])
    def test_a_moving_momentum_leaves_the_size_of_a_constant_step(self, factory):
        # Optax's heavy ball would grow 10 times, its Adam 2.5 times for a while.
        tx = ao.adaptive_scheduler(
            factory,
            0.1,
            momentum=0.9,
            rule=always(0.0),
            momentum_rule=always(0.3),
            mu_bounds=(0.0, 0.99),
            **BARE,
        )
        fixed = factory(jnp.float32(0.1), jnp.float32(0.9))
        grads = [PARAMS] * 40
        steps, states = scan(
            tx, PARAMS, tx.init(PARAMS), grads, value=np.ones(40, np.float32)
        )
        usual, _ = scan(fixed, PARAMS, fixed.init(PARAMS), grads)
        chex.assert_trees_all_close(steps, usual, rtol=1e-3, atol=1e-6)
        assert float(states[-1].momentum) == pytest.approx(0.99)

    def test_a_linear_momentum_moves_as_the_theory_says(self):
        tx = ao.adaptive_scheduler(
            optax.sgd,
            0.1,
            momentum=0.5,
            momentum_rule=always(0.125),
            momentum_coordinate="linear",
            mu_bounds=(0.0, 0.8),
            **BARE,
        )
        _, states = run(tx, 4)
        seen = [float(state.momentum) for state in states]
        np.testing.assert_allclose(seen, [0.625, 0.75, 0.8, 0.8], rtol=1e-6)

    def test_a_momentum_that_is_not_set_is_read_from_the_factory(self):
        assert float(ao.adaptive_scheduler(optax.adam, 0.1).init(PARAMS).momentum) == (
            np.float32(0.9)
        )

    def test_sigma_follows_its_rule_and_its_noise_is_added(self):
        tx = ao.adaptive_scheduler(
            optax.sgd,
            0.0001,
            sigma=1e-3,
            sigma_rule=always(math.log(2.0)),
            dither_scale="isotropic",
            **BARE,
        )
        params = {"w": jnp.zeros(5000)}
        updates, states = run(tx, 3, params=params)
        assert float(states[-1].sigma) == pytest.approx(8e-3, rel=1e-5)
        assert float(jnp.std(updates["w"])) == pytest.approx(8e-3, rel=0.05)

    def test_sigma_goes_to_zero_with_the_rate(self):
        params = {"w": jnp.ones(3)}
        tx = ao.adaptive_scheduler(
            optax.sgd, 0.1, sigma=1e-3, total_steps=10, average=False, recovery=False
        )
        state = tx.init(params)
        for _ in range(12):
            updates, state = tx.update(params, state, params, value=None)
        assert state.sigma == jnp.float32(1e-3)
        assert ao.snapshot(state)["sigma"] == 0.0
        assert not jnp.any(updates["w"])

    def test_no_noise_where_a_schedule_is_zero(self):
        params = {"w": jnp.ones(3)}
        schedule = optax.linear_schedule(0.1, 0.0, 3)
        tx = ao.adaptive_scheduler(
            optax.sgd, schedule, sigma=1e-3, average=False, recovery=False
        )
        state = tx.init(params)
        for _ in range(5):
            updates, state = tx.update(params, state, params, value=None)
        assert not jnp.any(updates["w"])

    def test_the_state_is_told_in_a_line(self):
        state = ao.adaptive_adam(0.1).init(jnp.ones(3))
        assert len(repr(state)) < 200 and "learning_rate=0.1" in repr(state)

    def test_no_sigma_draws_no_random_bits(self):
        def program(**options):
            tx = ao.adaptive_scheduler(optax.sgd, 0.1, **options)
            state = tx.init(PARAMS)
            step = functools.partial(tx.update, value=1.0)
            return str(jax.make_jaxpr(step)(PARAMS, state, PARAMS))

        assert "random" in program(sigma=1e-3)
        assert "random" not in program() and "threefry" not in program()

    def test_the_seed_sets_the_noise(self):
        @jax.jit
        def noise(seed):
            tx = ao.adaptive_scheduler(optax.sgd, 0.1, sigma=1e-3, seed=seed, **BARE)
            return tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0]

        one, again, other = noise(1), noise(1), noise(2)
        chex.assert_trees_all_equal(one, again)
        assert (one["w"] != other["w"]).all()
