"""What is not finite is counted and harmless, in every kind of scheduler."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax.sense.sensor import FED
from tests.contract.driving import DRIVEN, at, copy, driver, feedback
from tests.contract.registry import SCHEDULERS, STANDING
from tests.helpers import few

NO_READING = {
    "a NaN loss": lambda fed: fed._replace(value=jnp.float32(np.nan)),
    "an infinite loss": lambda fed: fed._replace(value=jnp.float32(np.inf)),
    "a loss of -inf": lambda fed: fed._replace(value=jnp.float32(-np.inf)),
    "a NaN reward": lambda fed: fed._replace(reward=jnp.float32(np.nan)),
    "an infinite reward": lambda fed: fed._replace(reward=jnp.float32(np.inf)),
}
NO_GRADIENT = {
    "a NaN in the gradient": lambda fed: fed._replace(
        grads=fed.grads | {"b": fed.grads["b"].at[1].set(np.nan)}
    ),
    "an infinite gradient": lambda fed: fed._replace(
        grads=jax.tree.map(lambda g: jnp.full_like(g, -np.inf), fed.grads)
    ),
    "nothing finite": lambda fed: jax.tree.map(lambda x: jnp.full_like(x, np.nan), fed),
}
every_scheduler = pytest.mark.parametrize(
    "name",
    few(
        [name for name in DRIVEN if name in SCHEDULERS],
        [name for name in DRIVEN if name in SCHEDULERS and name in STANDING],
    ),
)


def moved(after, before):
    return jax.tree.map(lambda a, b: bool(jnp.any(a != b)), after, before)


def after_a_fault(drive, warm, what, spoil):
    """The parameters and state after a spoilt step, which was counted and harmless."""
    params, state = drive.step(*copy(warm), spoil(at(feedback(6, 1), 0)))
    found = copy((params, state))
    counted = state.sensor.nonfinite - warm[1].sensor.nonfinite
    for field, times in zip(FED, counted, strict=True):
        hit = field[:-1] in what.replace("loss", "value") or "nothing" in what
        assert int(times) == hit, (what, field)
    chex.assert_tree_all_finite(state._replace(recovery=(), sensor=state.sensor))
    later, _ = drive.loop(feedback(7, 3), (params, state))
    chex.assert_tree_all_finite(later)
    assert all(jax.tree.leaves(moved(later, warm[0]))), f"{what} stopped the run"
    return found


@every_scheduler
def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted(name):
    drive = driver(name)
    warm = drive.loop(feedback(5, 30))
    for what, spoil in NO_GRADIENT.items():
        params, new = after_a_fault(drive, warm, what, spoil)
        old = warm[1]
        chex.assert_trees_all_equal(params, warm[0])
        chex.assert_trees_all_equal(new.inner_state, old.inner_state)
        for field in ("lr_scale", "momentum", "sigma", "frozen_fraction"):
            np.testing.assert_array_equal(
                getattr(new, field), getattr(old, field), err_msg=f"{field}: {what}"
            )
        for field in ("lr_rule", "momentum_rule", "sigma_rule"):
            chex.assert_trees_all_equal(getattr(new, field), getattr(old, field))
        if old.averaging:
            chex.assert_trees_all_equal(
                (new.averaging.average, new.averaging.average_count),
                (old.averaging.average, old.averaging.average_count),
            )
    assert drive.traces == 1


@every_scheduler
def test_a_loss_that_is_not_finite_is_no_reading_and_is_counted(name):
    drive = driver(name)
    warm = drive.loop(feedback(5, 30))
    for what, spoil in NO_READING.items():
        params, new = after_a_fault(drive, warm, what, spoil)
        chex.assert_tree_all_finite(params)
        assert all(jax.tree.leaves(moved(params, warm[0]))), f"{what}: no step"
        if new.recovery:
            judges, before = new.recovery.judges, warm[1].recovery.judges
            assert judges.trial.strikes <= before.trial.strikes
            assert judges.trial.restores == before.trial.restores
            assert judges.skip.skipped == before.skip.skipped
    assert drive.traces == 1
