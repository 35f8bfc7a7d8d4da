"""The gain that is reported is applied, however the optimizer is given."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.act.injection import Gains, adapt
from adaptive_optax.act.momentum_shadow import momentum_shadow
from tests.contract.optimizers import OPTIMIZERS
from tests.contract.registry import some_params

PARAMS = some_params()
GRADS = jax.tree.map(lambda p: 0.1 + p, PARAMS)
FACTORIES = [name for name, one in OPTIMIZERS.items() if one.rate is not None]


def gains(rate, scale=1.0, momentum=0.0):
    return Gains(*map(jnp.float32, (rate, scale, momentum)))


def first_update(inner, now, base):
    adapter = adapt(inner, base, momentum_wanted=False)
    state = adapter.init(PARAMS)
    return adapter.update(GRADS, state, PARAMS, now, value=jnp.float32(1.0))[0]


def optax_says(one, rate):
    tx = optax.with_extra_args_support(one.build(rate))
    return tx.update(GRADS, tx.init(PARAMS), PARAMS, value=jnp.float32(1.0))[0]


def check(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_makes_the_step_of_the_gain(name):
    one = OPTIMIZERS[name]
    if one.draws:
        pytest.skip("its steps are drawn")
    rate = 0.5 * one.rate
    got = first_update(one.factory, gains(rate, 0.5), gains(one.rate))
    check(got, optax_says(one, rate))


INJECTED = {
    "the factory itself": optax.inject_hyperparams(optax.adam),
    "inside a chain": lambda learning_rate: optax.chain(
        optax.clip(10.0), optax.inject_hyperparams(optax.adam)(learning_rate)
    ),
    "at a share of the rate": lambda learning_rate: optax.inject_hyperparams(
        optax.adam
    )(learning_rate=0.1 * learning_rate),
    "under another name": lambda learning_rate: optax.chain(
        optax.scale_by_adam(),
        optax.inject_hyperparams(optax.scale)(step_size=-learning_rate),
    ),
    "inside of another": lambda learning_rate: optax.inject_hyperparams(
        lambda rate: optax.inject_hyperparams(optax.adam)(learning_rate=rate)
    )(rate=learning_rate),
    "built": optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
}


@pytest.mark.parametrize("name", INJECTED)
def test_injected_hyperparams_follow_the_gain(name):
    share = 0.1 if "share" in name else 1.0
    got = first_update(INJECTED[name], gains(0.05, 0.5), gains(0.1))
    check(got, optax_says(OPTIMIZERS["adam"], share * 0.05))


def test_an_injected_factory_follows_rate_and_momentum_in_a_run():
    def end(inner):
        tx = ao.adaptive_scheduler(
            inner, 0.1, momentum=0.5, average=False, recovery=False
        )

        @jax.jit
        def step(params, state):
            value, grads = jax.value_and_grad(lambda p: jnp.sum(p**2))(params)
            updates, state = tx.update(grads, state, params, value=value)
            return optax.apply_updates(params, updates), state

        params = jnp.ones(3)
        state = tx.init(params)
        for _ in range(8):
            params, state = step(params, state)
        return params, state

    params, state = end(optax.inject_hyperparams(optax.sgd))
    np.testing.assert_allclose(params, end(optax.sgd)[0], rtol=1e-6)
    assert state.inner_state.hyperparams["learning_rate"] == state.learning_rate
    assert state.inner_state.hyperparams["momentum"] == 0.5


def odd(eta, beta=0.9):
    return optax.adam(eta, b1=beta)


def test_arguments_with_other_names():
    names = {"learning_rate_arg": "eta", "momentum_arg": "beta"}
    base = gains(0.1, momentum=0.5)
    adapter = adapt(odd, base, momentum_wanted=True, **names)
    got, _ = adapter.update(GRADS, adapter.init(PARAMS), PARAMS, base)
    check(got, optax_says(OPTIMIZERS["adam"], 0.1))
    ao.adaptive_scheduler(odd, 0.1, momentum=0.5, **names)


@pytest.mark.parametrize(
    "inner, options, message",
    [
        (odd, {}, r"no argument `learning_rate` \(it takes eta, beta\).*rate_arg="),
        (odd, {"learning_rate_arg": "lr"}, r"no argument 'lr'.*takes eta, beta"),
        (optax.adam(0.1), {"learning_rate_arg": "lr"}, "got a built optimizer"),
    ],
)
def test_a_name_that_is_not_there_is_said(inner, options, message):
    with pytest.raises(ValueError, match=message):
        ao.adaptive_scheduler(inner, 0.1, **options)


def test_multi_steps_may_be_given_as_it_is():
    tx = ao.adaptive_scheduler(optax.MultiSteps(optax.sgd(0.1), 2), average=False)
    state = tx.init(PARAMS)
    updates, state = tx.update(GRADS, state, PARAMS, value=1.0)
    assert not any(jnp.any(u) for u in jax.tree.leaves(updates))
    updates, _ = tx.update(GRADS, state, PARAMS, value=1.0)
    assert all(jnp.any(u) for u in jax.tree.leaves(updates))


@pytest.mark.parametrize(
    "inner",
    [
        optax.lbfgs(0.1, linesearch=None),
        optax.contrib.dog(1.0),
        optax.contrib.prodigy(0.1),
        optax.contrib.mechanize(optax.sgd(0.1)),
    ],
    ids=["lbfgs", "dog", "prodigy", "mechanic"],
)
def test_the_first_state_of_any_optimizer_may_be_donated(inner):
    params = some_params()
    state = ao.adaptive_scheduler(inner).init(params)
    leaves = [leaf for leaf in jax.tree.leaves((params, state)) if leaf.size]
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_an_optimizer_without_a_place_for_the_loss():
    # It says that it takes extra arguments, and has none.
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    sam = optax.contrib.sam(optax.sgd(0.05), adversary)
    for inner in (sam, lambda learning_rate: sam):
        tx = ao.adaptive_scheduler(inner, 0.05, average=False, recovery=False)
        updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, value=1.0)
        assert jnp.any(updates["w"] != 0)


def test_what_a_user_sets_in_an_injected_state_stays():
    base = gains(0.1)
    adapter = adapt(optax.inject_hyperparams(optax.adamw), base, momentum_wanted=False)
    state = optax.tree.set(adapter.init(PARAMS), weight_decay=jnp.float32(0.5))
    _, state = adapter.update(GRADS, state, PARAMS, base)
    assert state.hyperparams["weight_decay"] == 0.5


def test_an_injected_rate_that_nothing_reads_is_said():
    # The snapshot told of a rate that moved, and nothing moved.
    @optax.inject_hyperparams
    def deaf(learning_rate):
        del learning_rate
        return optax.adam(1e-3)

    tx, params = ao.adaptive_scheduler(deaf(learning_rate=1e-3), 1e-3), jnp.ones(2)
    with pytest.raises(ValueError, match="no update depends on .*learning_rate"):
        tx.update(params, tx.init(params), params, value=1.0)


def test_a_rate_of_its_own_in_a_part_stays():
    def by_part(learning_rate):
        sgd = optax.inject_hyperparams(optax.sgd)
        parts = {"w": sgd(learning_rate), "b": sgd(learning_rate=0.5)}
        return optax.partition(parts, {"w": "w", "b": "b"})

    adapter = adapt(by_part, gains(0.1), momentum_wanted=False)
    updates, _ = adapter.update(GRADS, adapter.init(PARAMS), PARAMS, gains(0.01))
    check(updates, {"w": -0.01 * GRADS["w"], "b": -0.5 * GRADS["b"]})


def test_the_step_is_corrected_for_a_momentum_that_moves():
    def ratios(factory):
        shadow = momentum_shadow(lambda mu: factory(1.0, b1=mu), 0.9)
        state, seen = shadow.init(), []
        for mu in (0.9, 0.9, 0.99, 0.99):
            ratio, state = shadow.update(mu, state)
            seen.append(float(ratio))
        return seen

    injected = ratios(optax.inject_hyperparams(optax.adam))
    np.testing.assert_allclose(injected, ratios(optax.adam), rtol=1e-4)
    assert injected[-1] < 0.5
