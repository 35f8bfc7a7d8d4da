"""The peers that follow the step alone, or average along: numbers, ends and starts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from adaptive_optax.law import Law
from adaptive_optax.supervise import start_audit
from benchmarks import peers
from benchmarks.peers import schedules
from tests.benchmarks.test_peers import train


@pytest.mark.parametrize("horizon", [20, 1000])
def test_schedules_warm_up_fully_and_end_at_zero(horizon):
    counts = jnp.arange(horizon + 1)
    for shape in (schedules.cosine_shape, schedules.trapezoid_shape):
        height = jax.vmap(shape(horizon))(counts)
        assert height[0] == 0 and height[-1] == pytest.approx(0, abs=1e-6)
        assert height[-2] < 0.2
        assert height[horizon // 20] == height.max() == 1
    flat = jax.vmap(schedules.trapezoid_shape(horizon))(counts)
    assert flat[horizon * 7 // 10] == 1 and flat[horizon * 85 // 100] == 0.5
    cosine = jax.vmap(schedules.cosine_shape(horizon))(counts)
    assert cosine[horizon // 20 + horizon * 19 // 40] == pytest.approx(0.5, abs=0.05)


def test_nadamw_takes_the_published_numbers():
    assert schedules.NADAMW["learning_rate"] == 0.0017486387539278373
    assert schedules.NADAMW["b1"] == pytest.approx(0.93266073836)
    assert schedules.NADAMW["b2"] == 0.9955159689799007
    assert schedules.NADAMW["weight_decay"] == 0.08121616522670176
    _, _, traced = train(peers.get("nadamw"), optax.sgd, jnp.array([1.0, 2.0]), 100)
    rate = traced["learning_rate"][:, 0]
    np.testing.assert_allclose(rate[:, 2], [0.00174863875, 0.0034972775], rtol=1e-5)
    np.testing.assert_allclose(rate[:, 1], rate[:, 2] / 2, rtol=1e-6)  # 2 % warm-up


def test_the_constant_rate_warms_up_as_ours_does():
    law, state = Law(), start_audit.init_audit(Law())
    left = state.audit_left - jnp.arange(40)
    started = jnp.ones((), bool)
    ours = jax.vmap(
        lambda left: start_audit.warm_up(state._replace(audit_left=left), started, law)
    )(left)
    theirs = jax.vmap(schedules.constant_shape())(jnp.arange(40))
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)
    assert theirs[0] == pytest.approx(0.05) and theirs[19] == theirs[39] == 1


def test_the_inverse_root_is_that_of_the_transformer():
    step, warm_up = np.arange(1, 200), schedules.FIRST_STEPS
    published = np.minimum(step**-0.5, step * warm_up**-1.5)
    height = jax.vmap(schedules.inverse_sqrt_shape())(jnp.arange(199))
    np.testing.assert_allclose(height, published / published.max(), rtol=1e-5)


def test_the_linear_decay_ends_at_zero():
    height = jax.vmap(schedules.linear_shape(100))(jnp.arange(101))
    np.testing.assert_allclose(height, 1 - np.arange(101) / 100, atol=1e-6)


@pytest.mark.parametrize(
    ("inner", "shortcut"),
    [
        (optax.adamw, lambda n: contrib.schedule_free_adamw(0.3, n, weight_decay=1e-4)),
        (optax.sgd, lambda n: contrib.schedule_free_sgd(0.3, n)),
    ],
)
def test_schedule_free_warms_up_as_the_shortcuts_of_optax_do(inner, shortcut):
    peer, horizon = peers.get("schedule_free_warm_up"), 80
    mine, theirs = peer.make(inner, 0.3, horizon), shortcut(horizon // 20)
    params = {"w": jnp.array([1.0, -2.0])}

    def run(tx, evaluate):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), evaluate(state, params)["w"]

        return jax.lax.scan(body, (params, tx.init(params)), length=10)[1]

    np.testing.assert_allclose(
        run(mine, peer.eval_params),
        run(theirs, contrib.schedule_free_eval_params),
        rtol=1e-5,
    )
