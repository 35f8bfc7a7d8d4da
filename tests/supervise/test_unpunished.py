"""What none of the judges may punish, and what they must see all the same."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.supervise.driving import PARAMS, STEP, TX, calm, feed, restores, slow_step


@pytest.mark.parametrize("before", [10, 60], ids=["audit", "after it"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e4, 1e30])
def test_one_bad_batch_is_never_punished(before, bad):
    # A fault of the batch is not a fault of the rate.
    params, state = feed([*calm(before), bad, *calm(30)])
    assert restores(state) == 0
    assert float(state.lr_scale) == 1.0
    assert int(state.recovery.judges.trial.strikes) == 0


@pytest.mark.parametrize("gap", [2, 3, 7])
def test_isolated_nans_never_add_up(gap):
    values = calm(150)
    values[5::gap] = np.nan
    _, state = feed(values)
    assert restores(state) == 0 and float(state.lr_scale) == 1.0
    assert int(state.sensor.nonfinite[2]) == len(values[5::gap])


@pytest.mark.parametrize("before", [10, 80], ids=["audit", "after it"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_a_loss_that_is_not_finite_is_no_reading_and_the_step_is_taken(before, value):
    # Its gradient is finite: nothing but a count says that it came.
    params, state = feed(calm(before))
    there, after = params, state
    for _ in range(20):
        there, after = STEP(there, after, value, size=1.0)
    assert (there["w"] < params["w"]).all()
    judges = after.recovery.judges
    chex.assert_trees_all_equal(judges.trial, state.recovery.judges.trial)
    chex.assert_trees_all_equal(judges.levels, state.recovery.judges.levels)
    chex.assert_trees_all_equal(judges.skip, state.recovery.judges.skip)
    assert float(after.lr_scale) == 1.0
    assert int(after.sensor.nonfinite[0]) == 20
    np.testing.assert_array_equal(after.sensor.series, state.sensor.series)


@pytest.mark.parametrize("before", [10, 80], ids=["audit", "after it"])
def test_a_gradient_that_is_not_finite_is_no_step(before):
    params, state = feed(calm(before))
    there, after = STEP(params, state, 2.0, size=np.nan)
    chex.assert_trees_all_equal(there, params)
    chex.assert_trees_all_equal(after.inner_state, state.inner_state)
    assert int(after.recovery.judges.trial.strikes) == 1


def test_steps_without_feedback_finish_a_restore_too():
    # A loss that comes every few steps left the momentum of the divergence in force.
    params, state = feed([*calm(80), *[1e4] * 5, None])
    assert restores(state) == 1
    chex.assert_trees_all_equal(params, state.recovery.copy.good_params)
    good = jax.tree.map(jnp.copy, state)
    unfed, _ = feed([None], jax.tree.map(jnp.copy, params), state)
    fed, _ = feed([2.0], params, good)
    chex.assert_trees_all_close(unfed, fed, rtol=1e-6)


def test_a_reward_alone_passes_the_audit_and_keeps_copies():
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, average=False, mode="safe")
    update = jax.jit(lambda s, p, r: tx.update(p, s, p, reward=r))
    params, state = PARAMS, tx.init(PARAMS)
    for t in range(65):
        updates, state = update(state, params, jnp.float32(t))
        params = optax.apply_updates(params, updates)
    assert int(state.recovery.judges.audit.audit_left) == 0
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), state.recovery.copy.good_params, PARAMS
    )
    assert all(jax.tree.leaves(moved))


def same_verdicts(values, others):
    """Two streams end in the same strikes, offences, restores and skips."""
    seen = [feed(x)[1].recovery.judges for x in (values, others)]
    assert int(seen[0].trial.restores) >= 1 and int(seen[0].skip.skipped) >= 1
    same = [(x.audit, x.trial, x.skip) for x in seen]
    chex.assert_trees_all_close(*same, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_verdict_does_not_depend_on_the_scale_of_the_loss(scale):
    values = np.r_[calm(70), [300.0] * 6, calm(40, 1.0), [70.0] * 5, calm(5)]
    same_verdicts(values, values * scale)


def test_the_verdict_does_not_depend_on_an_offset_below_zero():
    # A loss that has been below 0 has no zero of its own (ELBOs, negated rewards).
    values = np.r_[calm(70), [300.0] * 6, calm(40, 1.0), [70.0] * 5, calm(5)]
    same_verdicts(values - 64.0, values - 4096.0)


@pytest.mark.parametrize("phase", [0, 9])
def test_a_copy_is_kept_whenever_the_losses_come(phase):
    params, state = PARAMS, TX.init(PARAMS)
    for t in range(120):
        loss = 2.0 if t % 10 == phase else None
        params, state = STEP(params, state, loss, size=0.01)
    assert int(state.recovery.judges.audit.audit_left) == 0
    kept = state.recovery.copy.good_params["b"]
    lost = np.abs(kept - params["b"]) / np.abs(PARAMS["b"] - params["b"])
    assert np.all(lost < 0.35)  # no more than the last 40 of the 120 steps


@pytest.mark.parametrize("every", [1, 2, 5])
def test_rewards_now_and_then_are_never_held_against_a_loss(every):
    # The surrogate lies about 0 and the negative reward at -35: neither is high.
    rng = np.random.default_rng(0)
    params, state = PARAMS, TX.init(PARAMS)
    for t in range(150):
        surrogate, reward = 0.1 * rng.normal(), 35 + rng.normal()
        fed = {"reward": reward} if t % every == every - 1 else {}
        params, state = slow_step(params, state, value=surrogate, **fed)
    assert restores(state) == 0
    assert float(state.recovery.judges.levels.lowest_value) < -30


@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_reward_that_collapses_is_found_however_rarely_it_comes(every):
    rng = np.random.default_rng(0)
    params, state = PARAMS, TX.init(PARAMS)
    for t in range(100 * every):
        fed = {}
        if t % every == every - 1:
            fed["reward"] = -500.0 if t > 80 * every else 35 + rng.normal()
        _, state = slow_step(params, state, value=0.1, **fed)
    assert restores(state) > 0


@pytest.mark.parametrize("level", [10.0, -10.0])
def test_rewards_that_begin_late_are_no_divergence(level):
    rng = np.random.default_rng(0)
    params, state = feed(calm(80))
    for _ in range(60):
        _, state = slow_step(params, state, value=2.0, reward=level + rng.normal())
    assert restores(state) == 0
    assert abs(float(state.recovery.judges.levels.good_value) + level) < 2.0


@pytest.mark.parametrize("ramp", [20, 300, 1200])
def test_a_loss_that_rises_by_itself_throws_little_away(ramp):
    # A weight that is ramped up: the parameters are at fault at no time. The good copy
    # grew as old as the ramp, and the run was restored every fourth step for ever.
    scales, noises = jnp.logspace(0, -2, 40), np.random.default_rng(0).normal(size=1600)
    tx = ao.adaptive_sgd(0.05)

    def sound(x):
        return 0.5 * jnp.sum(scales * (x - 1) ** 2) / jnp.sum(scales)

    def step(carry, fed):
        x, state = carry
        t, noise = fed
        value, grad = jax.value_and_grad(sound)(x)
        told = value + 0.1 + 2 * jnp.clip((t - 200) / ramp, 0, 1) + 0.01 * noise
        updates, state = tx.update(grad, state, x, value=told)
        return (optax.apply_updates(x, updates), state), (value, restores_of(state))

    carry = jnp.zeros(40), tx.init(jnp.zeros(40))
    fed = jnp.arange(1600), jnp.float32(noises)
    values, back = jax.jit(lambda c: jax.lax.scan(step, c, fed)[1])(carry)
    assert 1 <= back[-1] <= 4
    for t in np.flatnonzero(np.diff(back)):
        assert values[t + 4] <= values[max(t - 40, 0)]


def restores_of(state):
    """How often the parameters went back, traced."""
    return state.recovery.judges.trial.restores
