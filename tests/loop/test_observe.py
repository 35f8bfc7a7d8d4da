"""``mode="observe"`` trains the plain optimizer to the bit."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.contract.driving import at, feedback
from tests.contract.optimizers import OPTIMIZERS, wrap
from tests.contract.registry import some_params
from tests.watch import recorded

STEPS = 30
STREAM = feedback(0, STEPS)


def stepper(tx):
    """One jitted step; the loss is not given to those that do not take it."""

    @jax.jit
    def step(params, state, grads, value):
        fed = optax.with_extra_args_support(tx)
        updates, state = fed.update(grads, state, params, value=value)
        return updates, optax.apply_updates(params, updates), state

    return step


def feedback_at(t):
    """Its step: a loss that explodes, a gradient that is NaN, a loss that is NaN."""
    fed = at(STREAM, t)
    value = jnp.where(t == 6, 1e6, jnp.where(t == 9, jnp.nan, fed.value))
    return fed.grads, value


@pytest.mark.parametrize("spoilt", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    "name, entry",
    [
        ("adam", "factory"),
        pytest.param("adam", "built", marks=pytest.mark.slow),
        ("sgd with momentum", "factory"),
    ],
)
def test_parameters_and_inner_state_are_the_plain_optimizers(name, entry, spoilt):
    one = OPTIMIZERS[name]
    inner = one.build(jnp.float32(one.rate) if entry == "factory" else None)
    tx = wrap(one, entry, mode="observe")
    mine, theirs = stepper(tx), stepper(inner)
    params, plain = some_params(), some_params()
    state, inner_state = tx.init(params), inner.init(plain)
    for t in range(STEPS):
        grads, value = feedback_at(t)
        if spoilt and t >= 20:
            grads = jax.tree.map(lambda g: g.at[0].set(jnp.nan), grads)
        updates, params, state = mine(params, state, grads, value)
        expected, plain, inner_state = theirs(plain, inner_state, grads, value)
        chex.assert_trees_all_equal(updates, expected)
        chex.assert_trees_all_equal(params, plain)
        chex.assert_trees_all_equal(state.inner_state, inner_state)
        assert float(state.learning_rate) == np.float32(one.rate)
    told = ao.snapshot(state)
    assert told["event_observed"]
    assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in told.values())
    average = ao.eval_params(state, params)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(average))


def test_bfloat16_parameters_are_rounded_as_by_the_plain_optimizer():
    """Its numbers were float32 arrays, and each step of a bfloat16 leaf differed."""
    tx = ao.adaptive_scheduler(optax.adamw, 1e-2, mode="observe", recovery=False)
    mine, theirs = stepper(tx), stepper(optax.adamw(1e-2))
    params = plain = {"w": jnp.linspace(-1.0, 1.0, 7).astype(jnp.bfloat16)}
    state, inner_state = tx.init(params), optax.adamw(1e-2).init(plain)
    for t in range(10):
        grads = {"w": params["w"] * jnp.bfloat16(t - 4.3)}
        _, params, state = mine(params, state, grads, jnp.float32(1.0))
        _, plain, inner_state = theirs(plain, inner_state, grads, jnp.float32(1.0))
        chex.assert_trees_all_equal(params, plain)


def test_the_would_be_gain_is_bounded_and_says_the_direction():
    for name, low, high in (("too low", 1.99, 2.02), ("right", 0.49, 2.02)):
        _, state, _ = recorded.recorded(name, observed=True)
        assert low < float(state.lr_scale) < high
        assert float(state.learning_rate) == recorded.COURSES[name].rate


def test_it_is_told_what_the_law_would_have_done():
    told = ao.explain(recorded.recorded("too high", observed=True)[2])
    assert "step 3: the start would have been thrown away: the loss rose" in told
    assert "mode='nudge'" in told and " was thrown away" not in told
    told = ao.explain(recorded.recorded("random labels", observed=True)[2])
    assert "batches would have been skipped" in told
    assert "the plain optimizer has learnt from them" in told
    told = ao.explain(recorded.recorded("too low", observed=True)[2])
    assert "is too low, by a factor of 2" in told
    assert "plateau" not in told and "no rate has helped" not in told


def test_the_state_goes_on_in_another_mode():
    _, state, _ = recorded.recorded("right", observed=True)
    params = recorded.start()
    tx = recorded.sgd(recorded.RATE)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, tx.init(params))
    _, after = jax.jit(tx.update)(params, state, params, value=1.0)
    assert not after.events.event_observed


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 1e-3},
        {"momentum": 0.9, "momentum_rule": ao.rules.trend()},
        {"sigma_rule": ao.rules.success()},
        {"freeze_threshold": 0.1},
        {"freeze": ao.Freeze(0.1)},
        {"total_steps": 100},
    ],
    ids=lambda options: list(options)[-1],
)
def test_what_would_act_is_refused(options):
    name = list(options)[-1].removesuffix("_threshold")
    with pytest.raises(ValueError, match=f"mode='observe'.*`{name}`=.*mode='nudge'"):
        ao.adaptive_scheduler(optax.sgd, 0.1, mode="observe", **options)


def test_a_law_of_ones_own_may_watch():
    law = ao.Law(trust=3.0, skip=None)
    tx = ao.adaptive_scheduler(optax.sgd, 0.1, mode="observe", law=law)
    assert "3 standard errors" in ao.describe(tx)
