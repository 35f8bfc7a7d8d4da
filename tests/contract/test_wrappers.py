"""Inside Optax's combinators, and around injected hyperparameters."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.contract.driving import Driver, at, feedback
from tests.contract.registry import some_params
from tests.helpers import always, few

STEPS = 30

# Moves from the first step on, and is quick to compile.
LIVELY = {"rule": ao.rules.literal(), "recovery": False, "average": False}


def small(**options):
    return ao.adaptive_scheduler(optax.adam, 1e-2, **LIVELY | options)


def run(tx, steps=STEPS, seed=0, params=None):
    drive = Driver(tx)
    params, state = drive.loop(feedback(seed, steps), drive.start(params))
    assert drive.traces == 1
    return params, state


@functools.cache
def alone():
    return run(small())


def scale_of(state):
    return np.asarray(ao.snapshot(state)["lr_scale"])


def test_in_a_chain():
    tx = optax.chain(optax.clip_by_global_norm(1e9), small(), optax.identity())
    params, state = run(tx)
    chex.assert_trees_all_close(params, alone()[0], rtol=1e-5)
    assert scale_of(state) == pytest.approx(scale_of(alone()[1]), rel=1e-5)


def test_in_a_named_chain():
    tx = optax.named_chain(("clip", optax.clip(1e9)), ("loop", small()))
    params, state = run(tx)
    chex.assert_trees_all_close(params, alone()[0], rtol=1e-5)
    assert isinstance(state["loop"], ao.AdaptiveSchedulerState)


def test_under_a_mask():
    # The mask leaves holes in the parameters, which the sensors must not count.
    params, state = run(
        optax.masked(small(freeze_threshold=0.0), {"w": True, "b": False})
    )
    inner = state.inner_state
    assert inner.sensor.motion.step_sketch["b"] == optax.MaskedNode()
    assert scale_of(state) != 1.0
    grads = feedback(0, STEPS).grads["b"]
    expected = some_params()["b"] + grads.sum(0)  # passed through as they came
    np.testing.assert_allclose(params["b"], expected, rtol=1e-4)


def test_in_a_partition_each_part_regulates_itself():
    tx = optax.partition(
        {
            "up": small(
                rule=ao.Rule(lambda: (), lambda s, state: (0.1 * one(s), state))
            ),
            "rest": small(average=True),
        },
        {"w": "up", "b": "rest"},
    )
    _, state = run(tx)
    seen = ao.snapshot(state)
    assert float(seen["up/lr_scale"]) == pytest.approx(np.exp(0.1 * STEPS), rel=1e-3)
    assert float(seen["rest/lr_scale"]) < 1.0


def one(signals):
    return jnp.ones_like(signals.loss.value)


def test_in_multi_steps_only_whole_steps_count():
    tx = optax.MultiSteps(small(), every_k_schedule=3)
    tx = optax.GradientTransformationExtraArgs(tx.init, tx.update)
    params, state = run(tx)
    inner = state.inner_opt_state
    assert int(inner.sensor.signal_count) == STEPS // 3
    assert float(inner.lr_scale) != 1.0
    chex.assert_tree_all_finite(params)


@pytest.mark.parametrize("dtype", few(["bfloat16", "float32"], ["bfloat16"]))
def test_in_multi_steps_parameters_wait(dtype):
    tx = optax.MultiSteps(small(sigma=1e-3), every_k_schedule=4)
    params = some_params(dtype)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params, value=1.0)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, params))


def test_in_apply_if_finite():
    tx = optax.apply_if_finite(small(), max_consecutive_errors=5)
    params, state = run(tx)
    chex.assert_trees_all_close(params, alone()[0], rtol=1e-5)
    fed = at(feedback(1, 1), 0)
    broken = jax.tree.map(lambda g: g * jnp.nan, fed.grads)
    updates, after = tx.update(broken, state, params, value=fed.value)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, params))
    assert scale_of(after) == scale_of(state)


MAKERS = {
    "factory": functools.partial(ao.adaptive_scheduler, optax.adam),
    "built": lambda rate, **options: ao.adaptive_scheduler(
        optax.adam(1.0), rate, **options
    ),
    "adaptive_sgd": ao.adaptive_sgd,
    "online_adagrad": ao.online_adagrad,
}


@pytest.mark.parametrize("maker", few(MAKERS, ["factory", "built"]))
def test_a_rate_in_inject_hyperparams(maker):
    # Then the base rate is traced, and no check may ask for its value.
    make = MAKERS[maker]
    injected = optax.inject_hyperparams(lambda rate: make(rate, **LIVELY))(rate=1e-2)
    params, state = run(injected, 6)
    chex.assert_trees_all_close(params, run(make(1e-2, **LIVELY), 6)[0], rtol=1e-5)
    assert float(state.hyperparams["rate"]) == pytest.approx(1e-2)


@pytest.mark.parametrize("options", [LIVELY, {}], ids=["lively", "default"])
def test_the_scheduler_itself_in_inject_hyperparams(options):
    injected = optax.inject_hyperparams(ao.adaptive_scheduler, static_args=("inner",))
    params, _ = run(injected(optax.adam, learning_rate=1e-2, **options), 6)
    plain = ao.adaptive_scheduler(optax.adam, 1e-2, **options)
    chex.assert_trees_all_close(params, run(plain, 6)[0], rtol=1e-5)


def test_a_ready_made_optimizer_in_inject_hyperparams():
    # Optax binds every argument, so **options must be written out in the signature.
    injected = optax.inject_hyperparams(ao.online_sgd)(learning_rate=1e-2)
    params, _ = run(injected, 6)
    chex.assert_trees_all_close(params, run(ao.online_sgd(1e-2), 6)[0], rtol=1e-5)


@pytest.mark.parametrize("option", [{"sketch": 0.5}, {"total_steps": 100}])
def test_an_option_that_must_be_static_says_so(option):
    injected = optax.inject_hyperparams(ao.adaptive_adam)(1e-2, **option)
    with pytest.raises(TypeError, match=f"static_args=.*{next(iter(option))}"):
        injected.init(some_params())


def test_around_injected_hyperparams_the_gains_are_set():
    # Scaling the updates instead would not reach the momentum at all.
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.5)
    options = LIVELY | {"momentum": 0.9}
    params, state = run(ao.adaptive_scheduler(injected, 0.1, **options), 6)
    expected, _ = run(ao.adaptive_scheduler(optax.sgd, 0.1, **options), 6)
    chex.assert_trees_all_close(params, expected, rtol=1e-5)
    assert float(state.lr_scale) != 1.0


def test_a_momentum_rule_moves_the_momentum_that_was_injected():
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.5)
    options = LIVELY | {"momentum": 0.9, "momentum_rule": always(0.1)}
    tx = ao.adaptive_scheduler(injected, **options)
    _, state = run(tx, steps=3)
    assert state.shadow == ()  # nothing can be made anew to measure its steps
    assert float(state.momentum) == pytest.approx(1 - 0.1 * np.exp(-0.3))


def test_around_injected_hyperparams_the_user_may_still_set_them():
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    tx = ao.adaptive_scheduler(injected, 0.1, average=False, recovery=False)
    params = some_params()
    state = tx.init(params)
    halved = {"learning_rate": jnp.float32(0.05)}
    state = state._replace(inner_state=state.inner_state._replace(hyperparams=halved))
    updates, _ = tx.update(params, state, params, value=1.0)
    chex.assert_trees_all_close(
        updates, jax.tree.map(lambda p: -0.05 * p, params), rtol=1e-6
    )
