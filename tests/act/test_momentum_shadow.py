"""The shadow: a moving momentum, compensated, for optimizers that are not ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptive_optax as ao
from adaptive_optax._types import Rule
from adaptive_optax.act.momentum_shadow import momentum_shadow

# What each does to a constant gradient differs: sums, averages, signs, ratios.
OPTIMIZERS = {
    "sgd": lambda mu: optax.sgd(1.0, mu),
    "nesterov": lambda mu: optax.sgd(1.0, mu, nesterov=True),
    "adam": lambda mu: optax.adam(1.0, b1=mu),
    "adamw": lambda mu: optax.adamw(1.0, b1=mu),
    "nadam": lambda mu: optax.nadam(1.0, b1=mu),
    "rmsprop": lambda mu: optax.rmsprop(1.0, momentum=mu),
    "lion": lambda mu: optax.lion(1.0, b1=mu),
    "lamb": lambda mu: optax.lamb(1.0, b1=mu),
    "lars": lambda mu: optax.lars(1.0, momentum=mu),
    "sm3": lambda mu: optax.sm3(1.0, momentum=mu),
    "novograd": lambda mu: optax.novograd(1.0, b1=mu),
    "adan": lambda mu: optax.adan(1.0, b1=mu),
    "yogi": lambda mu: optax.yogi(1.0, b1=mu),
    "adamax": lambda mu: optax.adamax(1.0, b1=mu),
}
PATH = [0.9] * 20 + [0.99] * 20 + [0.999] * 20 + [0.5] * 20


def steps_and_ratios(make, base, path):
    """|step| on another parameter and another constant gradient, and the ratios."""
    params, grads = jnp.full((3,), 0.5), jnp.full((3,), 0.02)
    shadow = momentum_shadow(make, base)

    def step(carry, mu):
        inner, state = carry
        ratio, state = shadow.update(mu, state)
        updates, new = make(mu).update(grads, inner, params)
        new = jax.tree.map(lambda n, o: jnp.asarray(n, o.dtype), new, inner)
        return (new, state), (jnp.max(jnp.abs(updates)), ratio)

    @jax.jit
    def run(path):
        carry = make(path[0]).init(params), shadow.init()
        return jax.lax.scan(step, carry, path)[1]

    steps, ratios = run(jnp.asarray(path, jnp.float32))
    return np.asarray(steps), np.asarray(ratios)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_moving_momentum_never_enlarges_the_step(name):
    fixed, ones = steps_and_ratios(OPTIMIZERS[name], 0.9, [0.9] * len(PATH))
    np.testing.assert_array_equal(ones, 1.0)  # exactly: nothing has moved
    moving, ratios = steps_and_ratios(OPTIMIZERS[name], 0.9, PATH)
    assert np.all(moving * ratios <= fixed * (1 + 1e-3))
    np.testing.assert_allclose(moving * ratios, fixed, rtol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "adan"])
def test_the_property_needs_the_ratio(name):
    fixed, _ = steps_and_ratios(OPTIMIZERS[name], 0.9, [0.9] * len(PATH))
    moving, _ = steps_and_ratios(OPTIMIZERS[name], 0.9, PATH)
    assert np.max(moving / fixed) > 1.5


def test_lion_needs_no_correction():
    _, ratios = steps_and_ratios(OPTIMIZERS["lion"], 0.9, PATH)
    np.testing.assert_allclose(ratios, 1.0, rtol=1e-6)


def test_degenerate_steps_give_one():
    silent = momentum_shadow(lambda mu: optax.set_to_zero(), 0.9)
    broken = momentum_shadow(lambda mu: optax.scale(jnp.nan), 0.9)
    silent_at_first = momentum_shadow(optax.scale, 0.0)
    for shadow in (silent, broken, silent_at_first):
        ratio, _ = shadow.update(0.99, shadow.init())
        assert ratio == 1.0


def test_state_types_hold_and_one_trace_serves():
    shadow = momentum_shadow(OPTIMIZERS["nadam"], 0.9)
    state = shadow.init()
    types = jax.tree.map(jax.typeof, state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    update = jax.jit(shadow.update)
    for mu in (0.9, 0.95, 0.5):
        _, state = update(jnp.float32(mu), state)
        assert jax.tree.map(jax.typeof, state) == types
    assert update._cache_size() == 1
    # A buffer that occurs twice in a state could not be donated.
    donated = jax.jit(shadow.update, donate_argnums=1)
    donated(jnp.float32(0.9), shadow.init())


def test_extra_arguments_reach_the_optimizer():
    seen = []

    def make(mu):
        def update(updates, state, params=None, *, value):
            seen.append(value)
            return jax.tree.map(lambda g: mu * g, updates), state

        return optax.GradientTransformationExtraArgs(lambda p: (), update)

    shadow = momentum_shadow(make, 0.5)
    ratio, _ = shadow.update(0.25, shadow.init(), value=3.0)
    assert ratio == 2.0
    assert seen == [3.0]


FILTERS = {
    "momentum_sgd": functools.partial(ao.filters.momentum_sgd, base_momentum=0.9),
    "nesterov": functools.partial(
        ao.filters.momentum_sgd, nesterov=True, base_momentum=0.9
    ),
    "adam": ao.filters.adam,
    "adamw": functools.partial(ao.filters.adamw, weight_decay=0.0),
    "adagrad": ao.filters.adagrad,
}


@functools.cache
def filter_runs(name):
    """(changes of log 1/(1 - mu)) to the steps of the scheduler, and of the filter."""
    factory = FILTERS[name]
    argument = "b1" if "adam" in name else "momentum"
    params = grads = jnp.asarray([0.02, -3.0])

    @jax.jit
    def run(path):
        rule = Rule(lambda: (), lambda s, state: (path[s.count], state))
        tx = ao.adaptive_scheduler(
            factory,
            0.1,
            momentum=0.9,
            momentum_rule=rule,
            rule=Rule(lambda: (), lambda s, state: (jnp.float32(0), state)),
            momentum_arg=argument,
            average=False,
            recovery=False,
        )
        assert tx.init(params).shadow == ()

        def step(carry, _):
            state, alone = carry
            u, state = tx.update(grads, state, params, value=1.0)
            bare = factory(learning_rate=0.1, **{argument: state.momentum})
            v, alone = bare.update(grads, alone, params)
            return (state, alone), (u, v)

        begin = factory(learning_rate=0.1, **{argument: jnp.float32(0.9)}).init(params)
        return jax.lax.scan(step, (tx.init(params), begin), length=len(path))[1]

    return run


@settings(max_examples=15, deadline=None)
@given(path=st.lists(st.floats(-0.5, 0.5, width=32), min_size=30, max_size=30))
@pytest.mark.parametrize("name", FILTERS)
def test_our_filters_step_as_they_would_alone_whatever_the_momentum_does(name, path):
    ours, alone = filter_runs(name)(jnp.asarray(path, jnp.float32))
    np.testing.assert_allclose(ours, alone, rtol=1e-6)
    # And no path of it makes a step on a constant gradient longer than it ends up.
    limit = {"adagrad": 0.1, "nesterov": 0.1 * 3 / 0.1, "momentum_sgd": 0.1 * 3 / 0.1}
    assert np.abs(ours).max() <= limit.get(name, 0.1) * (1 + 1e-5)


@pytest.mark.parametrize("foreign", [optax.sgd, optax.adam])
def test_a_filter_of_ours_beside_a_foreign_one_does_not_undo_its_correction(foreign):
    # The whole factory went without: a step was fifty times longer.
    argument = "momentum" if foreign is optax.sgd else "b1"

    def factory(learning_rate, momentum):
        return optax.partition(
            {
                "theirs": foreign(learning_rate, **{argument: momentum}),
                "ours": ao.filters.momentum_sgd(learning_rate, momentum),
            },
            lambda tree: jax.tree.map(lambda _: "theirs", tree),
        )

    rule = Rule(
        lambda: (), lambda s, state: (jnp.where(s.count == 0, jnp.log(50.0), 0), state)
    )
    tx = ao.adaptive_scheduler(
        factory,
        0.1,
        momentum=0.5,
        momentum_rule=rule,
        rule=Rule(lambda: (), lambda s, state: (jnp.float32(0), state)),
        average=False,
        recovery=False,
    )
    params = {"a": jnp.ones(2)}
    update, state = jax.jit(tx.update), tx.init(params)
    longest = 0.0
    for _ in range(200):
        steps, state = update(params, state, params, value=1.0)
        longest = max(longest, float(jnp.abs(steps["a"]).max()))
    assert float(state.momentum) == pytest.approx(0.99)
    assert longest <= 0.1 * (2 if foreign is optax.sgd else 1) * 1.01


def test_a_momentum_of_the_factorys_own_is_what_its_state_is_made_of():
    # The heavy ball's gain was fixed at that of no momentum: steps a tenth as long.
    held = Rule(lambda: (), lambda s, state: (jnp.float32(0), state))
    params, ends = jnp.ones(3), []
    for options in ({}, {"momentum": 0.9}):
        factory = functools.partial(ao.filters.momentum_sgd)
        tx = ao.adaptive_scheduler(factory, 0.1, momentum_rule=held, **options)
        ends.append(tx.update(params, tx.init(params), params, value=1.0))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
