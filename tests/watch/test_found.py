"""The state is found wherever it lies, and several are told apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.watch.snapshot import snapshot
from tests.helpers import few
from tests.watch.training import PARAMS, SCHEDULER_KEYS, scheduler, train

WRAPPERS = {
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx),
    "named_chain": lambda tx: optax.named_chain(("clip", optax.clip(1)), ("loop", tx)),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition(
        {"loop": tx, "rest": optax.sgd(0.1)}, {"w": "loop", "b": "rest"}
    ),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    "finite": lambda tx: optax.apply_if_finite(tx, 3),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_found_inside_before_the_first_step(wrapper):
    shot = snapshot(WRAPPERS[wrapper](scheduler()).init(PARAMS))
    assert set(shot) == SCHEDULER_KEYS
    assert shot["steps"] == 0 and shot["learning_rate"] == np.float32(0.1)


@pytest.mark.parametrize("wrapper", few(WRAPPERS, ("chain", "partition")))
def test_found_inside(wrapper):
    _, state = train(WRAPPERS[wrapper](scheduler()), steps=2)
    shot = snapshot(state)
    assert set(shot) == SCHEDULER_KEYS
    assert shot["steps"] == 2
    assert shot["loss"] > 0


def test_found_in_an_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, scheduler(), wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    optimizer.update(model, grads, value=jnp.float32(4.5))
    shot = snapshot(optimizer.opt_state)
    assert set(shot) == SCHEDULER_KEYS
    assert shot["loss"] == 4.5
    assert all(type(x) is type(jnp.ones(())) for x in shot.values())


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (ao.add_dither(0.1), {"dither_count": 3}),
        (ao.average_params(every=1), {"average_count": 3}),
        (ao.freeze_by_grad_norm(1e9, warmup=0, min_dwell=0), {"frozen_leaves": 1.0}),
        (
            ao.freeze_by_grad_norm(0.0, optax.adam(0.1)),
            {"frozen_leaves": 0.0},
        ),
        (
            ao.scale_by_rule(ao.rules.trend()),
            {"steps": 3, "nonfinite_values": 0},
        ),
        (
            ao.restore_on_divergence(optax.sgd(0.1)),
            {"restores": 0, "audit_failures": 0, "steps": 3},
        ),
    ],
    ids=["dither", "average", "freeze", "freeze_inner", "rule", "restore"],
)
def test_parts_by_themselves(tx, expected):
    _, state = train(optax.chain(optax.identity(), tx))
    shot = snapshot(state)
    for key, value in expected.items():
        assert shot[key] == value


def test_parts_side_by_side_are_read_together():
    tx = optax.chain(optax.adam(0.1), ao.add_dither(1e-3), ao.average_params())
    assert set(snapshot(tx.init(PARAMS))) == {"dither_count", "average_count"}


def test_weights_of_every_blend():
    law = ao.blend(ao.rules.trend(), ao.rules.variance(), weights=(3, 1))
    tx = scheduler(rule=law, momentum_rule=law)
    shot = snapshot(tx.init(PARAMS))
    np.testing.assert_allclose(shot["weights"], [0.75, 0.25])
    np.testing.assert_allclose(shot["momentum_weights"], [0.75, 0.25])
    assert "sigma_weights" not in shot


def test_two_schedulers_are_told_apart():
    tx = optax.partition(
        {"slow": scheduler(learning_rate=0.1), "fast": scheduler(learning_rate=0.2)},
        {"w": "slow", "b": "fast"},
    )
    shot = snapshot(tx.init(PARAMS))
    assert shot["slow/learning_rate"] == jnp.float32(0.1)
    assert shot["fast/learning_rate"] == jnp.float32(0.2)
    assert len(shot) == 2 * len(SCHEDULER_KEYS)


@pytest.mark.parametrize("state", [optax.adam(0.1).init(PARAMS), PARAMS, None, ()])
def test_no_adaptive_state_shows_the_call(state):
    with pytest.raises(ValueError, match=r"snapshot\(opt_state\).*adaptive_scheduler"):
        snapshot(state)
