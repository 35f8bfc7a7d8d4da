"""The modes, and where they differ."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.helpers import always
from tests.loop.running import BARE, PARAMS, loop, rates, run


class TestModes:
    def test_a_mode_is_the_evidence_that_a_climb_needs(self):
        noise = np.float32(np.random.default_rng(0).normal(size=(130, 2, 3)))
        values = np.float32(9 - np.arange(130) / 30)
        grads = [{"w": PARAMS["w"] + 1.5 * each, "b": PARAMS["b"]} for each in noise]

        grads = jax.tree.map(lambda *g: np.stack(g), *grads)

        @jax.jit
        @jax.vmap
        def climb(mode):
            tx = ao.adaptive_scheduler(optax.sgd, 1e-3, mode=mode, average=False)
            feedback = {"value": values}
            _, states = loop(tx)(PARAMS, tx.init(PARAMS), grads, feedback)
            return states.lr_scale[-1]

        search, nudge, safe = climb(jnp.array([3.0, 6.0, math.inf]))
        assert search > 1.1 * nudge > 2.0 and safe == 1.0

    def test_the_law_knows_the_memory_of_a_filter_that_is_not_set(self):
        # Its votes are late by that, and a climb lands where it was by then.
        def rule_after(inner, **options):
            tx = ao.adaptive_scheduler(inner, 1e-3, mode="search", **BARE, **options)
            return run(tx, 30)[1][-1].lr_rule

        own = rule_after(functools.partial(optax.sgd, momentum=0.5))
        given = rule_after(optax.sgd, momentum=0.5)
        assert (
            0.1
            < float(own.search_lagged)
            == pytest.approx(float(given.search_lagged), rel=1e-5)
        )

    @pytest.mark.parametrize(
        "name, number", [("search", 3), ("nudge", 6.0), ("safe", math.inf)]
    )
    def test_a_mode_and_its_number_are_one_program(self, name, number):
        def program(mode):
            tx = ao.adaptive_scheduler(optax.sgd, 1e-3, mode=mode, average=False)
            step = functools.partial(tx.update, value=1.0)
            return str(jax.make_jaxpr(step)(PARAMS, tx.init(PARAMS), PARAMS))

        assert program(name) == program(number)
        assert program(name) != program(5.0)

    @pytest.mark.parametrize(
        "schedule",
        [
            optax.warmup_constant_schedule(0.0, 3e-4, 1000),
            optax.constant_schedule(3e-4),
            optax.cosine_decay_schedule(3e-4, 100_000),
        ],
    )
    def test_a_schedule_that_does_not_decay_there_may_have_a_horizon(self, schedule):
        ao.adaptive_scheduler(optax.sgd, schedule, total_steps=5000)

    def test_without_an_audit_a_horizon_may_be_short(self):
        ao.adaptive_scheduler(optax.sgd, 0.1, total_steps=2, recovery=False)
        ao.adaptive_scheduler(optax.sgd, 0.1, total_steps=60)

    def test_a_horizon_may_be_given_while_another_program_is_traced(self):
        schedule = optax.warmup_constant_schedule(0.0, 0.1, 10)

        @jax.jit
        def build(rate):
            ao.adaptive_scheduler(optax.sgd, schedule, total_steps=100)
            own = optax.warmup_constant_schedule(0.0, rate, 10)
            ao.adaptive_scheduler(optax.sgd, own, total_steps=100)
            return rate

        build(0.1)

    def test_arrays_may_be_given_while_another_program_is_traced(self):
        @jax.jit
        def build(x):
            one = {"mode": jnp.float32(6), "slew": jnp.float32(0.1)}
            inf = {"mode": jnp.float32(math.inf), "slew": np.array(math.inf)}
            for options in (one, inf):
                ao.adaptive_scheduler(
                    optax.sgd,
                    jnp.float32(0.1),
                    sigma=jnp.float32(1e-3),
                    lr_bounds=(jnp.float32(1e-3), jnp.float32(1.0)),
                    **options,
                )
            return x

        build(0.1)

    def test_a_horizon_is_not_traced(self):
        with pytest.raises(TypeError, match="`total_steps` must be known before any"):
            jax.jit(
                lambda n: ao.adaptive_scheduler(optax.sgd, 0.1, total_steps=n) and n
            )(100)

    def test_what_the_bounds_take_from_a_schedule_is_no_gain(self):
        tx = ao.adaptive_scheduler(
            optax.sgd,
            optax.constant_schedule(0.1),
            rule=always(0.1),
            lr_bounds=(0.01, 0.2),
            **BARE,
        )
        _, states = run(tx, 30)
        assert rates(states)[-1] == np.float32(0.2)
        np.testing.assert_allclose(states[-1].lr_scale, 2.0, rtol=1e-5)

    def test_a_schedule_that_comes_back_finds_the_multiplier_as_it_was(self):
        # Where the schedule is low, the bounds keep the rate up, and take nothing.
        schedule = optax.join_schedules(
            [optax.constant_schedule(r) for r in (0.1, 0.01, 0.0, 0.1)], [5, 10, 15]
        )
        options = BARE | {"rule": always(0.0), "lr_bounds": (0.01, 0.2)}
        tx = ao.adaptive_scheduler(optax.sgd, schedule, **options)
        half = tx.init(PARAMS)._replace(lr_scale=jnp.float32(0.5))
        _, states = run(tx, 20, state=half)
        assert {float(state.lr_scale) for state in states} == {0.5}
        assert rates(states)[-1] == np.float32(0.05)
