"""The judges together: against their twin, and what none of them may punish."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.supervise import supervisor
from tests.rules.signal_streams import random_stream, records, replaced, steps
from tests.supervise.driving import LAW, PARAMS, STEP, TX, calm, feed, slow_step
from tests.supervise.judges_twin import Judges


def judge_all(stream, log_scales, nonfinite, held, audited):
    law = LAW if audited else LAW._replace(audit=None)
    start = supervisor.init_judges(law)

    def step(state, fed):
        signals, log_scale, bad, hold = fed
        verdict, state = supervisor.judge(
            state, signals, log_scale, law, nonfinite=bad, held=hold
        )
        return state, (verdict, supervisor.warm_up(state, law))

    return jax.lax.scan(step, start, (stream, log_scales, nonfinite, held))


judge_one = jax.jit(judge_all, static_argnames="audited")
judge_many = jax.jit(jax.vmap(judge_all, in_axes=(0, 0, 0, 0, None)), static_argnums=4)


@pytest.mark.parametrize("on_probation", [True, False])
@pytest.mark.parametrize("offset", [0.0, 20.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_judges_agree_with_their_twin(seed, offset, on_probation):
    rng = np.random.default_rng(100 + seed)
    stream = random_stream(seed, 500)
    # A bad start, a doubted step, dead gradients, a calm in which a late start passes,
    # then anything: hills of ten steps, some short of a second loss.
    t = np.arange(500)
    hill = np.repeat(rng.random(50) < 0.15, 10) * 200.0 * (t > 150)
    hill[[12, 160, 161, 162, *range(180, 190)]] = 200.0
    hill[163:170] = 0.0
    alignment = np.where(t > 150, 0.3 * np.asarray(stream.alignment.mean), 0.1)
    alignment[12] = -0.1
    norm = np.where(t > 150, stream.grad_norm, 1.0 + 0.1 * np.cos(t))
    norm[30:33] = 0.05
    early = (t < 35) | (t >= 160) & (t < 190)
    stream = replaced(
        stream,
        loss__value=stream.loss.value
        + np.float32(offset + hill + 3 * (t >= 30) * (t < 33)),
        loss__fast=stream.loss.fast + np.float32(offset),
        loss__arrived=stream.loss.arrived | early,
        alignment__mean=jnp.asarray(alignment, jnp.float32),
        alignment__sem=0.3 * stream.alignment.sem,
        grad_norm=jnp.asarray(norm, jnp.float32),
    )
    nonfinite = jnp.asarray(
        (t >= 3) & (t < 6) | (t > 200) & np.repeat(rng.random(100) < 0.1, 5)
    )
    coordinates = jnp.asarray(rng.normal(size=500), jnp.float32)
    state, (verdicts, shares) = judge_one(
        stream, coordinates, nonfinite, jnp.zeros(500, bool), on_probation
    )
    twin, expected, warm = Judges(on_probation), [], []
    for s, c, bad in zip(records(stream), coordinates, nonfinite, strict=True):
        expected.append(twin.weigh(s, float(c), bool(bad)))
        warm.append(twin.warm_up())
    audited = {"again", "failed", "failed, dead", "late"}
    guarded = {"diverged", "acquitted", "convicted"}
    assert twin.verdicts >= (audited if on_probation else guarded)
    for seen, column in zip(verdicts, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(seen, column, atol=1e-5)
    np.testing.assert_allclose(shares, warm, rtol=1e-6)
    remembered = {
        "good_value": twin.good,
        "good_noise": twin.noise,
        "first_value": twin.first,
        "lowest_value": twin.lowest,
        "first_norm": twin.first_norm,
        "audit_jitter": twin.jitter,
        "audit_calm": twin.calm,
        "audit_left": twin.left,
        "audit_failures": twin.failures,
        "strikes": twin.strikes,
        "restores": twin.restores,
        "checking_restore": twin.on_trial,
        "trusted_before": twin.trial_trusted,
        "trusted_log_scale": twin.trusted,
        "diverged_log_scale": twin.ceiling,
        "retrying": twin.retrying,
        "retry_from": twin.retry_from,
        "retry_log_scale": twin.again_at,
    }
    for name, x in remembered.items():
        np.testing.assert_allclose(
            optax.tree.get(state, name), x, rtol=1e-5, err_msg=name
        )


def hard_case(seed, length=160):
    """A start that may be opposed, then a level loss: near every threshold."""
    rng, t = np.random.default_rng(seed), np.arange(length)
    level, away, fast = (
        rng.choice(x) for x in ([1.0, 2.0, -3.0], [0, 0.1, 0.3], [0.3, 1, 3])
    )
    start, hills = t < 25, np.repeat(rng.random(length // 10) < 0.15, 10)
    value = level + 0.05 * rng.normal(size=length)
    value += 30.0 * (~start & hills & (rng.random(length) < 0.8))
    value += rng.choice([1.0, 5.0]) * (start & (rng.random(length) < away))
    mean = np.where(start, rng.choice([-0.4, -0.15, 0.1]), 0.1)
    mean = mean + 0.1 * rng.normal(size=length)
    fields = {
        "count": t,
        "loss__value": value,
        "loss__change": np.diff(value, prepend=value[:1]),
        "loss__fast": level + 0.05 * fast * rng.normal(size=length),
        "loss__noise": 0.05,
        "loss__trend": rng.choice([0.5, 1.5]) * rng.normal(size=length),
        "loss__long_trend": rng.choice([0, 1.5]) + rng.normal(size=length),
        "loss__drop": rng.choice([0.05, 0.3, 0.45]) + 0.1 * rng.normal(size=length),
        "loss__count": np.maximum(t - rng.choice([0, 40]), 0),
        "loss__arrived": rng.random(length) < 0.95,
        "alignment__mean": mean,
        "alignment__sem": rng.choice([0.03, 0.06, 0.1]),
        "alignment__slow": mean + rng.choice([0, 0.3]),
        "alignment__slow_sem": 0.05,
        "alignment__count": np.maximum(t - rng.choice([0, 3]), 0),
        "step_correlation__mean": rng.choice([0, 0.3, 0.6])
        + 0.2 * rng.normal(size=length),
        "grad_norm": np.where(rng.random(length) < 0.06, 0.05, 1.0),
        "has_gradient": rng.random(length) < 0.97,
    }
    walk = rng.choice([0, 0.05]) * np.cumsum(rng.normal(size=length))
    log_scales = np.where(t < 30, 0.0, -1.6) + 0.05 * rng.normal(size=length) + walk
    bad, held = rng.random((2, length)) < [[0.03], [0.1]]
    return steps(length, **fields), np.float32(log_scales), bad, held


def test_the_judges_agree_with_their_twin_and_each_condition_decides_somewhere():
    asked, decided, kinds = set(), set(), set()
    for audited, seeds in ((True, range(120)), (False, range(120, 140))):
        cases = [hard_case(seed) for seed in seeds]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *cases)
        _, (verdicts, shares) = judge_many(*stacked, audited)
        for i, (stream, *rest) in enumerate(cases):
            twin, expected, warm = Judges(audited), [], []
            for s, m, bad, hold in zip(records(stream), *rest, strict=True):
                expected.append(twin.weigh(s, float(m), bool(bad), bool(hold)))
                warm.append(twin.warm_up())
            for seen, column in zip(verdicts, zip(*expected, strict=True), strict=True):
                np.testing.assert_allclose(seen[i], column, atol=1e-5)
            np.testing.assert_allclose(shares[i], warm, rtol=1e-6)
            asked |= twin.conditions.asked
            decided |= twin.conditions.decided
            kinds |= twin.verdicts
    assert len(asked) > 40 and asked == decided, asked - decided
    assert kinds >= {"failed, overshot", "retry begins", "retry fails", "acquitted"}


@pytest.mark.parametrize("before", [10, 60], ids=["audit", "guard"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e4, 1e30])
def test_one_bad_batch_is_never_punished(before, bad):
    # A fault of the batch is not a fault of the rate.
    params, state = feed([*calm(before), bad, *calm(30)])
    assert int(state.recovery.judges.restores) == 0
    assert float(state.lr_scale) == 1.0
    assert int(state.recovery.judges.strikes) == 0


@pytest.mark.parametrize("gap", [2, 3, 7])
def test_isolated_nans_never_add_up(gap):
    values = calm(150)
    values[5::gap] = np.nan
    _, state = feed(values)
    assert int(state.recovery.judges.restores) == 0 and float(state.lr_scale) == 1.0
    assert int(state.sensor.nonfinite[0]) == len(values[5::gap])


def test_steps_without_feedback_finish_a_restore_too():
    # A loss that comes every few steps left the momentum of the divergence in force.
    params, state = feed([*calm(80), 1e4, 1e4, 1e4, None])
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


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_verdict_does_not_depend_on_the_scale_of_the_loss(scale):
    values = np.r_[calm(70), [300.0] * 3, calm(40, 1.0), [70.0] * 3, calm(5)]
    seen = [feed(values * k)[1].recovery for k in (1.0, scale)]
    assert int(seen[0].judges.restores) >= 1
    for field in ("restores", "strikes", "audit_failures", "audit_left"):
        assert int(optax.tree.get(seen[1].judges, field)) == int(
            optax.tree.get(seen[0].judges, field)
        )


def test_the_verdict_does_not_depend_on_an_offset_below_zero():
    # A loss that has been below 0 has no zero of its own (ELBOs, negated rewards).
    values = np.r_[calm(70), [300.0] * 3, calm(40, 1.0), [70.0] * 3, calm(5)]
    seen = [feed(values - k)[1].recovery for k in (64.0, 4096.0)]
    assert int(seen[0].judges.restores) >= 1
    for field in ("restores", "strikes", "audit_failures", "audit_left"):
        assert int(optax.tree.get(seen[1].judges, field)) == int(
            optax.tree.get(seen[0].judges, field)
        )


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
    assert int(state.recovery.judges.restores) == 0
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
    assert int(state.recovery.judges.restores) > 0


@pytest.mark.parametrize("level", [10.0, -10.0])
def test_rewards_that_begin_late_are_no_divergence(level):
    rng = np.random.default_rng(0)
    params, state = feed(calm(80))
    for _ in range(60):
        _, state = slow_step(params, state, value=2.0, reward=level + rng.normal())
    assert int(state.recovery.judges.restores) == 0
    assert abs(float(state.recovery.judges.levels.good_value) + level) < 2.0
