"""What all rules have in common: types, tracing, holding, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax import rules
from adaptive_optax._types import Rule, Signals
from adaptive_optax.rules.blend import blend
from tests.rules.signal_streams import (
    one_step,
    poisoned,
    random_stream,
    replaced,
    run_rule,
    runner,
    steps,
)

RULES = {
    "trend": rules.trend(),
    "reward": rules.reward(),
    "variance": rules.variance(),
    "grad_norm": rules.grad_norm(),
    "cyclical": rules.cyclical(period=40),
    "plateau": rules.plateau(patience=4, cooldown=3),
    "success": rules.success(),
    "alignment": rules.alignment(),
    "settle": rules.settle(),
    "momentum": rules.momentum(),
    "kick": rules.kick(patience=4),
    "literal alpha": rules.literal(),
    "literal mu": rules.literal("momentum"),
    "literal sigma": rules.literal("sigma"),
    "blend": blend(rules.trend(), rules.variance(), rules.plateau(patience=4)),
    "blend with credit": blend(rules.trend(), rules.grad_norm(), credit=10.0),
}
STEPS = 50  # of most streams, so that one program serves most tests of a rule
LISTENING = {name: rule for name, rule in RULES.items() if name != "cyclical"}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
listening_rule = pytest.mark.parametrize(
    "rule", LISTENING.values(), ids=LISTENING.keys()
)


def types_of(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def at(stream: Signals, t: int) -> Signals:
    # Of NumPy: each slice of a JAX array is a program that is run.
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[t]), stream)


@every_rule
def test_types_are_fixed_and_strong(rule, strict_types):
    state = rule.init()
    stream = random_stream(3, 12)
    for t in range(12):
        delta, following = rule.update(at(stream, t), state)
        assert types_of(delta) == ((), jnp.float32, False)
        assert types_of(following) == types_of(state)
        state = following
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))


@every_rule
def test_scan_is_the_loop_and_vmap_too(rule):
    streams = [random_stream(seed, STEPS) for seed in (4, 5)]
    update = jax.jit(rule.update)
    looped = []
    for stream in streams:
        state, deltas = rule.init(), []
        for t in range(STEPS):
            delta, state = update(at(stream, t), state)
            deltas.append(delta)
        looped.append(np.stack(deltas))
        np.testing.assert_allclose(run_rule(rule, stream)[0], looped[-1], atol=1e-6)
    states = jax.tree.map(lambda x: jnp.stack([x, x]), rule.init())
    both = jax.tree.map(lambda *x: jnp.stack(x), *streams)
    _, deltas = jax.vmap(runner(rule))(states, both)
    np.testing.assert_allclose(deltas, np.stack(looped), atol=1e-6)


@every_rule
def test_one_trace_for_a_whole_run(rule):
    traces = []

    @jax.jit
    def update(signals, state):
        traces.append(1)
        return rule.update(signals, state)

    state = rule.init()
    stream = random_stream(6, 10)
    for t in range(10):
        _, state = update(at(stream, t), state)
    assert len(traces) == 1


@every_rule
def test_the_state_can_be_donated(rule):
    # Two fields that shared one buffer made XLA refuse to donate it twice.
    update = jax.jit(rule.update, donate_argnums=1)
    stream = random_stream(6, 3)
    first = rule.init()
    for state in (first, rule.init()):
        for t in range(3):
            _, state = update(at(stream, t), state)


@every_rule
def test_float64_mode_changes_no_type(rule):
    with jax.enable_x64(True):
        state = rule.init()
        delta, following = rule.update(one_step(loss__trend=9.0), state)
        assert delta.dtype == jnp.float32
        assert types_of(following) == types_of(state)


@listening_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_signals_move_nothing(rule, bad):
    _, state = run_rule(rule, random_stream(7, STEPS, restores=0.0))
    stream = random_stream(8, STEPS, restores=0.0)
    deltas, following = run_rule(rule, poisoned(stream, bad), state)
    np.testing.assert_array_equal(deltas, 0.0)
    jax.tree.map(np.testing.assert_array_equal, following, state)


@every_rule
def test_a_restore_on_non_finite_signals_stays_finite(rule):
    restored = jnp.ones(STEPS, bool)
    stream = replaced(poisoned(steps(STEPS), np.nan), standing__restored=restored)
    deltas, state = run_rule(rule, stream)
    after, _ = run_rule(rule, random_stream(9, STEPS), state)
    assert np.isfinite(deltas).all() and np.isfinite(after).all()


@listening_rule
def test_without_any_measurement_everything_holds(rule):
    _, state = run_rule(rule, random_stream(10, STEPS, restores=0.0))
    stream = random_stream(11, STEPS, missing=1.1, restores=0.0)
    deltas, following = run_rule(rule, stream, state)
    np.testing.assert_array_equal(deltas, 0.0)
    jax.tree.map(np.testing.assert_array_equal, following, state)


@every_rule
def test_a_quiet_step_is_exactly_zero(rule):
    delta, _ = rule.update(one_step(), rule.init())
    assert float(delta) == 0.0


@every_rule
def test_scale_and_sign_of_the_loss_do_not_matter(rule):
    stream = random_stream(12, 200)
    # Powers of two and no offset where float32 could not hold the sum exactly.
    shifted = replaced(
        stream,
        loss__value=stream.loss.value * 4096 - 7,
        loss__change=stream.loss.change * 4096,
        loss__fast=stream.loss.fast * 4096,
        loss__slow=stream.loss.slow * 4096,
        loss__noise=stream.loss.noise * 4096,
        reward__value=stream.reward.value * 64,
        reward__change=stream.reward.change * 64,
        grad_norm=stream.grad_norm * 1e-6,
    )
    offset = replaced(
        stream,
        loss__value=stream.loss.value - 100.0,
        loss__fast=stream.loss.fast - 100.0,
    )
    deltas, _ = run_rule(rule, stream)
    np.testing.assert_array_equal(run_rule(rule, shifted)[0], deltas)
    np.testing.assert_allclose(run_rule(rule, offset)[0], deltas, atol=1e-6)


def test_state_fields_have_names_of_their_own():
    makers = [getattr(rules, name)() for name in rules.__all__]
    fields = [f for rule in makers for f in getattr(rule.init(), "_fields", ())]
    assert len(fields) == len(set(fields))


def test_all_names_are_rules():
    assert all(isinstance(getattr(rules, name)(), Rule) for name in rules.__all__)


def test_a_hyperparameter_may_be_traced():
    streams = random_stream(13, 50)

    def final(strength, up):
        rule = blend(
            rules.variance(strength=strength), rules.trend(up=up), weights=(strength, 1)
        )
        state = rule.init()
        return jax.lax.scan(lambda s, x: rule.update(x, s)[::-1], state, streams)[1]

    traced = jax.vmap(final)(jnp.array([0.5, 1.0]), jnp.array([1.1, 1.2]))
    np.testing.assert_allclose(traced[0], final(0.5, 1.1), atol=1e-6)
