"""Any tree, any options, any feedback, saved and restored at any time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import adaptive_optax as ao
from adaptive_optax import _trees
from adaptive_optax.law import Law
from adaptive_optax.supervise import supervisor
from tests.fuzz.configurations import BASE, Fed, configuration

VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, 1.0, 50.0, -3.0, 1e-30, 1e30, -1e30]),
    st.sampled_from([np.nan, np.inf, -np.inf, 3e38]),
    st.floats(-10, 10, width=32),
)
SIZES = st.sampled_from([1.0, 1.0, -1.0, 0.0, 1e-20, 1e15, np.nan, np.inf, 1e30])
BURSTS = st.lists(st.tuples(VALUES, SIZES, st.integers(1, 6)), min_size=1, max_size=6)


def types(tree):
    return jax.tree.map(lambda x: (jnp.shape(x), x.dtype, x.weak_type), tree)


def sound(tree):
    """Whether every number that was finite at the start is."""
    return all(
        bool(jnp.isfinite(leaf).all())
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    )


def loop_state(state):
    """The loop's, out of a chain or a mask."""
    return _trees.find_states(state, ao.AdaptiveSchedulerState)[0]


def own_parts(state):
    """The loop's numbers in a state: all but what is shaped like the parameters."""
    own = loop_state(state)
    return own._replace(inner_state=(), recovery=(), averaging=(), window=())


def warm_up(state):
    """Share of the rate that is taken; a start may be repeated at any age."""
    recovery = loop_state(state).recovery
    return supervisor.warm_up(recovery.judges, Law()) if recovery else 1.0


class Machine(RuleBasedStateMachine):
    """One run, which is fed at random."""

    most = 8  # configurations; each is compiled once

    @initialize(data=st.data())
    def begin(self, data):
        self.c = configuration(data.draw(st.integers(0, self.most - 1)))
        self.carry = self.c.start()
        self.types = types(self.carry)
        self.steps, self.rng = 0, np.random.default_rng(0)

    def fed(self, value, size, told):
        def one(p):
            if not jnp.issubdtype(p.dtype, jnp.inexact):
                return jnp.zeros_like(p)
            noise = self.rng.normal(size=p.shape)
            with np.errstate(over="ignore", invalid="ignore"):
                grad = jnp.asarray(np.float32(size) * np.float32(noise))
            # A constant that is infinite is not trained.
            return jnp.where(jnp.isfinite(p), grad, 0).astype(p.dtype)

        return Fed(
            jax.tree.map(one, self.c.params),
            np.float32(value) if told else None,
            np.float32(-value) if told and self.c.rewarded else None,
        )

    def burst(self, parts, told=True):
        self.steps += sum(times for *_, times in parts)
        return [self.fed(v, s, told) for v, s, times in parts for _ in range(times)]

    def run(self, carry, feds):
        for fed in feds:
            carry = self.c.step(carry, fed)
        return carry

    @rule(parts=BURSTS)
    def train(self, parts):
        self.carry = self.run(self.carry, self.burst(parts))

    @rule(times=st.integers(1, 60))
    def calm(self, times):
        self.carry = self.run(self.carry, self.burst([(1.0, 1.0, times)]))

    @rule(parts=BURSTS)
    def train_without_a_loss(self, parts):
        self.carry = self.run(self.carry, self.burst(parts[:1], told=False))

    @rule(parts=BURSTS)
    def save_and_restore(self, parts):
        feds = self.burst(parts)
        saved = jax.tree.map(np.asarray, jax.device_get(self.carry))
        self.carry = self.run(self.carry, feds)
        restored = jax.tree.map(jnp.asarray, saved)
        again = self.run(restored, feds)
        for one, other in zip(
            jax.tree.leaves(self.carry), jax.tree.leaves(again), strict=True
        ):
            np.testing.assert_array_equal(one, other, err_msg=self.c.name)

    @invariant()
    def types_stay(self):
        if self.steps:
            assert types(self.carry) == self.types, self.c.name

    @invariant()
    def one_trace_a_signature(self):
        assert len(set(self.c.traces)) == len(self.c.traces), self.c.name

    @invariant()
    def parameters_are_finite(self):
        params = {k: x for k, x in self.carry[0].items() if k != "infinite"}
        assert sound(params), self.c.name
        if "infinite" in self.carry[0]:
            kept = self.c.params["infinite"], self.carry[0]["infinite"]
            np.testing.assert_array_equal(*map(np.isfinite, kept))
        told = ao.snapshot(self.carry[1])
        assert sound(told), (self.c.name, told)
        if self.c.options.get("average", True):
            mean = ao.eval_params(self.carry[1], self.carry[0])
            assert types(mean) == types(self.carry[0])
            assert sound({k: x for k, x in mean.items() if k != "infinite"})

    @invariant()
    def gains_keep_their_bounds(self):
        own = own_parts(self.carry[1])
        assert sound(own), self.c.name
        low, high = self.c.options.get("lr_bounds", (BASE * 1e-6, BASE * 1e6))
        ends = "total_steps" in self.c.options or self.steps < 200
        least = 0.0 if ends else 0.99 * low * warm_up(self.carry[1])
        assert least <= own.learning_rate <= high * 1.0001, self.c.name
        assert 0 <= own.sigma_annealed <= own.sigma <= 1e-2
        assert 0 <= own.momentum <= 0.999
        assert 0 <= own.frozen_fraction <= 1
        counts = [x for x in jax.tree.leaves(own) if x.dtype == jnp.int32]
        assert all((x >= 0).all() for x in counts)


def run_machine(most, **options):
    machine = type("Machine", (Machine,), {"most": most})
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            **options,
        ),
    )


def test_some_two_thousand_steps():
    run_machine(6, max_examples=8, stateful_step_count=25, derandomize=True)


@pytest.mark.slow
def test_many_configurations():
    run_machine(300, max_examples=300, stateful_step_count=30)
