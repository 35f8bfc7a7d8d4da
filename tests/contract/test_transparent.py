"""Without feedback the wrapper is not there: the inner optimizer, to the bit."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.act import injection
from tests.contract.driving import at, feedback
from tests.contract.optimizers import OPTIMIZERS, entries, wrap
from tests.contract.registry import BARE, some_params
from tests.helpers import few

STREAM = feedback(0, 3)


def trajectory(tx, **extra):
    """Parameters, updates and state, step by step, each operation by itself."""
    tx = optax.with_extra_args_support(tx)
    params, seen = some_params(), []
    state = tx.init(params)
    for t in range(3):
        updates, state = tx.update(at(STREAM, t).grads, state, params, **extra)
        params = optax.apply_updates(params, updates)
        seen.append((updates, params))
    return seen, state


def plain(tree):
    """Random keys as the numbers they are, weak types aside."""
    return jax.tree.map(np.asarray, optax.tree.unwrap_random_key_data(tree))


def once_each():
    """Every optimizer through one entry, and through both where it keeps most."""
    for name, entry in entries():
        both = name in ("adam", "noisy_sgd", "sgd with momentum")
        if entry == "factory" or both or OPTIMIZERS[name].rate is None:
            yield name, entry


@pytest.mark.parametrize("name, entry", few(entries(), list(once_each())))
def test_no_feedback_changes_no_bit(name, entry):
    one = OPTIMIZERS[name]
    inner = one.build(jnp.float32(one.rate) if entry == "factory" else None)
    # Polyak's step needs the loss; then the base rate is held by the law instead.
    extra = {"value": jnp.float32(0.5)} if one.needs_value else {}
    # Eager conditionals are slow; the averaged run is in the next test.
    options = {"mode": "safe"} if one.needs_value else {}
    expected, inner_state = trajectory(inner, **extra)
    seen, state = trajectory(wrap(one, entry, **BARE, **options), **extra)
    chex.assert_trees_all_equal(plain(seen), plain(expected))
    chex.assert_trees_all_equal(plain(state.inner_state), plain(inner_state))
    assert float(state.lr_scale) == 1.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("entry", ["factory", "built"])
def test_no_feedback_changes_no_bit_of_a_low_precision_run(entry, dtype):
    inner = optax.adam(jnp.float32(1e-2) if entry == "factory" else 1e-2)
    params = some_params(dtype)
    tx = wrap(OPTIMIZERS["adam"]._replace(rate=1e-2), entry)
    state, inner_state = tx.init(params), inner.init(params)
    for t in range(3):
        grads = jax.tree.map(lambda g: g.astype(dtype), at(STREAM, t).grads)
        updates, state = tx.update(grads, state, params)
        expected, inner_state = inner.update(grads, inner_state, params)
        expected = jax.tree.map(lambda u: u.astype(dtype), expected)
        chex.assert_trees_all_equal(updates, expected)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
@pytest.mark.parametrize(
    "factory, argument",
    [
        (optax.sgd, "momentum"),
        (optax.adam, "b1"),
        (optax.lion, "b1"),
        (ao.filters.momentum_sgd, "momentum"),
        (ao.filters.adamw, "b1"),
    ],
)
def test_a_momentum_that_is_set_and_held_is_the_factorys(factory, argument, momentum):
    tx = ao.adaptive_scheduler(factory, 1e-2, momentum=momentum)
    inner = factory(jnp.float32(1e-2), **{argument: jnp.float32(momentum)})
    chex.assert_trees_all_equal(trajectory(tx)[0], trajectory(inner)[0])


def test_a_schedule_is_followed_while_nothing_is_fed():
    schedule = optax.cosine_decay_schedule(1e-1, 5)
    tx = ao.adaptive_scheduler(optax.sgd, schedule)
    expected, _ = trajectory(optax.sgd(schedule))
    seen, state = trajectory(tx)
    chex.assert_trees_all_close(seen, expected, rtol=1e-6)
    np.testing.assert_array_equal(state.learning_rate, jnp.float32(schedule(2)))


@pytest.mark.parametrize(
    "make",
    [lambda: optax.sgd(0.1, 0.9), lambda: optax.adam(0.1), lambda: optax.lion(0.1)],
)
def test_the_jitted_step_is_the_jitted_inner_step(make):
    tx = ao.adaptive_scheduler(make())
    params, grads = some_params(), at(STREAM, 0).grads
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    inner = make()
    expected, _ = jax.jit(inner.update)(grads, inner.init(params), params)
    chex.assert_trees_all_equal(updates, expected)


@pytest.mark.parametrize("entry", ["factory", "built"])
def test_a_healthy_start_feels_nothing_of_the_judges_but_the_warm_up(entry):
    # The rate rises over 20 steps and is watched for 40; then it is what it was.
    stream = feedback(1, 30)
    tx = wrap(OPTIMIZERS["adam"]._replace(rate=1e-2), entry)
    inner = optax.adam(jnp.float32(1e-2) if entry == "factory" else 1e-2)
    params = some_params()
    state, inner_state = tx.init(params), inner.init(params)
    update = jax.jit(tx.update)
    for t in range(30):
        fed = at(stream, t)
        updates, state = update(fed.grads, state, params, value=fed.value)
        expected, inner_state = inner.update(fed.grads, inner_state, params)
        expected = jax.tree.map(lambda u, t=t: u * min((t + 2) / 20, 1), expected)
        chex.assert_trees_all_close(updates, expected, rtol=1e-5)
        params = optax.apply_updates(params, updates)
    assert float(state.lr_scale) == 1.0


def test_gains_hold_to_the_bit_without_feedback_after_they_have_moved():
    tx = ao.adaptive_scheduler(
        optax.sgd, 1e-2, rule=ao.rules.literal(), recovery=False, average=False
    )
    params = some_params()
    state, update = tx.init(params), jax.jit(tx.update)
    for value in (3.0, 2.0, 4.0, 1.0):
        _, state = update(params, state, params, value=value)
    assert float(state.lr_scale) != 1.0
    _, after = update(params, state, params)
    for field in ("learning_rate", "lr_scale", "momentum", "sigma"):
        np.testing.assert_array_equal(getattr(after, field), getattr(state, field))


def test_the_adapters_agree_on_the_rate_where_scaling_is_the_rate():
    gains = injection.Gains(*(jnp.float32(x) for x in (5e-2, 5.0, 0.9)))
    params, grads = some_params(), at(STREAM, 0).grads
    steps = []
    for inner in (optax.adam, optax.adam(1e-2)):
        adapter = injection.adapt(inner, gains, momentum_wanted=False)
        steps.append(adapter.update(grads, adapter.init(params), params, gains)[0])
    chex.assert_trees_all_close(*steps, rtol=1e-6)
