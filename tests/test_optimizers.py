"""The ready-made optimizers are the optimizers that they say they are."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.helpers import always, few

RESTORING = functools.partial(ao.restore_on_divergence, optax.sgd(0.1))
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}
PAIRS = {
    "adaptive_sgd": (ao.adaptive_sgd(0.1, 0.9), optax.sgd(0.1, 0.9)),
    "adaptive_sgd, nesterov": (
        ao.adaptive_sgd(0.1, 0.8, nesterov=True),
        optax.sgd(0.1, 0.8, nesterov=True),
    ),
    "adaptive_adam": (ao.adaptive_adam(0.1, 0.8, 0.99), optax.adam(0.1, 0.8, 0.99)),
    "adaptive_adamw": (
        ao.adaptive_adamw(0.1, weight_decay=0.5),
        optax.adamw(0.1, weight_decay=0.5),
    ),
    "adaptive_adamw, masked": (
        ao.adaptive_adamw(0.1, weight_decay=0.5, mask={"w": True, "b": False}),
        optax.adamw(0.1, weight_decay=0.5, mask={"w": True, "b": False}),
    ),
    "online_sgd": (ao.online_sgd(0.1), optax.sgd(0.1)),
    "online_adagrad": (ao.online_adagrad(0.1), optax.adagrad(0.1)),
    "restore_on_divergence": (
        ao.restore_on_divergence(optax.adam(0.1)),
        optax.adam(0.1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_the_plain_optimizer_while_its_gains_hold(name):
    ours, theirs = PAIRS[name]
    params, state, other = PARAMS, ours.init(PARAMS), theirs.init(PARAMS)
    for t in range(5):
        grads = jax.tree.map(lambda p, t=t: jnp.cos(p + t), params)
        updates, state = ours.update(grads, state, params)
        expected, other = theirs.update(grads, other, params)
        chex.assert_trees_all_close(updates, expected, rtol=2e-5, atol=2e-6)
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize(
    "make",
    few(
        [
            ao.adaptive_sgd,
            ao.adaptive_adam,
            ao.adaptive_adamw,
            ao.online_sgd,
            ao.online_adagrad,
            RESTORING,
        ],
        [ao.adaptive_adamw, ao.online_adagrad, RESTORING],
    ),
)
def test_it_trains_with_its_defaults(make):
    tx = make()
    target = {"w": jnp.full((2, 3), 0.5), "b": jnp.zeros(3)}

    def loss(params):
        gaps = jax.tree.map(lambda p, t: jnp.sum((p - t) ** 2), params, target)
        return sum(jax.tree.leaves(gaps))

    @jax.jit
    def run():
        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=300)[1]

    values = run()
    assert float(values[-1]) < 0.1 * float(values[0])


@pytest.mark.parametrize("make", [ao.online_sgd, ao.online_adagrad])
def test_a_stream_is_not_averaged_unless_asked(make):
    with pytest.raises(ValueError, match="holds no average"):
        ao.eval_params(make().init(PARAMS), PARAMS)
    ao.eval_params(make(average=True).init(PARAMS), PARAMS)


def test_the_others_are_averaged():
    for make in (ao.adaptive_sgd, ao.adaptive_adam, ao.adaptive_adamw):
        ao.eval_params(make().init(PARAMS), PARAMS)


def test_a_moving_momentum_keeps_the_step_of_adaptive_sgd():
    # A heavy ball that sums would take steps 10 times longer at .99 than at .9.
    tx = ao.adaptive_sgd(
        0.1,
        0.9,
        momentum_rule=always(0.5),
        average=False,
        recovery=False,
        mode="safe",
    )
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(60):
        updates, state = update(PARAMS, state, PARAMS, value=jnp.float32(1.0))
    assert float(state.momentum) == pytest.approx(0.999)
    assert float(jnp.abs(updates["w"]).max()) <= 0.1 / (1 - 0.9) * (1 + 1e-4)


def test_options_reach_the_scheduler():
    tx = ao.adaptive_adam(1e-2, sigma=1e-3, freeze_threshold=1e-4, average=False)
    state = tx.init(PARAMS)
    np.testing.assert_array_equal(state.sigma, jnp.float32(1e-3))
    assert state.freezing and not state.averaging


def test_the_safety_net_never_raises_the_rate():
    tx = ao.restore_on_divergence(optax.sgd(1e-5))

    @jax.jit
    def run():
        def step(carry, _):
            params, state = carry
            value = sum(jnp.sum(p**2) for p in jax.tree.leaves(params))
            updates, state = tx.update(params, state, params, value=value)
            return (optax.apply_updates(params, updates), state), state.lr_scale

        return jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=200)[1]

    np.testing.assert_array_equal(run(), 1.0)


def test_the_safety_net_speaks_in_its_own_name():
    tx = RESTORING()
    state = tx.init(PARAMS)
    other = ao.restore_on_divergence(optax.sgd(0.1), average=True).init(PARAMS)
    for call, message in (
        (lambda: tx.update(PARAMS, state), "`restore_on_divergence` needs the"),
        (lambda: tx.update({}, state, PARAMS), "call restore_on_divergence's update"),
        (lambda: tx.update(PARAMS, other, PARAMS), "build restore_on_divergence.*True"),
        (lambda: ao.restore_on_divergence(optax.sgd), "try restore_on_divergence.*op"),
        (
            lambda: ao.restore_on_divergence(optax.sgd(0.1), momentum_arg="x"),
            "try restore_on_divergence.optax.sgd, learning_rate",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="restore_on_divergence made, got dict"):
        tx.update(PARAMS, PARAMS, PARAMS)
    with pytest.raises(ValueError, match="`adaptive_scheduler` needs the parameters"):
        ao.adaptive_adam(0.1).update(PARAMS, ao.adaptive_adam(0.1).init(PARAMS))


@pytest.mark.parametrize("option", [{"mode": "search"}, {"law": ao.Law()}])
def test_the_safety_net_has_a_law_of_its_own(option):
    with pytest.raises(TypeError, match=f"a law of its own, got `{next(iter(option))}"):
        ao.restore_on_divergence(optax.sgd(0.1), **option)


BAD = [
    (
        lambda: ao.adaptive_sgd(-0.1),
        r"`learning_rate` must lie in \(0, inf\), got -0.1",
    ),
    (lambda: ao.adaptive_sgd(0.1, 1.0), r"`momentum` must lie in .* got 1.0"),
    (lambda: ao.adaptive_adam(0.1, -0.5), r"`momentum` must lie in .* got -0.5"),
    (lambda: ao.adaptive_adam(0.1, 0.9, 1.5), r"`b2` must lie in \[0, 1\), got 1.5"),
    (lambda: ao.adaptive_adamw(0.1, weight_decay=-1), "`weight_decay` .* got -1"),
    (lambda: ao.online_adagrad(0.1, eps=-1.0), "`eps` must lie in .* got -1.0"),
    (lambda: ao.online_sgd(float("nan")), "`learning_rate` must be finite, got nan"),
    (lambda: ao.restore_on_divergence(optax.sgd), "needs a base `learning_rate`"),
    (
        lambda: ao.restore_on_divergence(optax.sgd(0.1), recovery=False),
        "nothing to restore, got `recovery`=False",
    ),
]


@pytest.mark.parametrize("make, message", BAD)
def test_bad_input_is_quoted(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [ao.adaptive_adam, ao.online_sgd, ao.online_adagrad])
def test_a_signature_shows_the_options_and_their_defaults(make):
    shown = inspect.signature(make).parameters
    assert {"mode", "recovery", "total_steps"} <= shown.keys()
    assert shown["average"].default == (make is ao.adaptive_adam)
