"""The judges together against their twin: streams of every kind of step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax._reasons import EventKind
from adaptive_optax.law import Skip
from adaptive_optax.supervise import supervisor
from tests.rules.signal_streams import random_stream, records, replaced, steps
from tests.supervise.driving import LAW, judge_step
from tests.supervise.judges_twin import Judges

# With a twentieth the bucket is often full to the brim, where rounding decides.
SHARE = 0.0497


def judge_all(stream, log_scales, nonfinite, audited):
    law = LAW._replace(skip=Skip(share=SHARE))
    law = law if audited else law._replace(audit=None)

    def step(state, fed):
        verdict, state = judge_step(state, *fed, law)
        return state, (verdict, supervisor.warm_up(state, law))

    start = supervisor.init_judges(law)
    return jax.lax.scan(step, start, (stream, log_scales, nonfinite))


judge_one = jax.jit(judge_all, static_argnames="audited")
judge_many = jax.jit(jax.vmap(judge_all, in_axes=(0, 0, 0, None)), static_argnums=3)


def told(stream, log_scales, nonfinite, audited):
    """The twin after a stream, its verdicts, and the shares of the rate."""
    twin, verdicts, shares = Judges(audited, share=SHARE), [], []
    for s, m, bad in zip(records(stream), log_scales, nonfinite, strict=True):
        verdicts.append(twin.weigh(s, float(m), bool(bad)))
        shares.append(twin.warm_up())
    return twin, zip(*verdicts, strict=True), shares


@pytest.mark.parametrize("audited", [True, False])
@pytest.mark.parametrize("offset", [0.0, 20.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_judges_agree_with_their_twin(seed, offset, audited):
    rng = np.random.default_rng(100 + seed)
    stream = random_stream(seed, 500)
    # A bad start, dead gradients, a calm in which a late start passes, then anything:
    # hills of ten steps.
    t = np.arange(500)
    hill = np.repeat(rng.random(50) < 0.15, 10) * 200.0 * (t > 150)
    hill[12] = hill[14:17] = 200.0
    alignment = np.where(t > 150, 0.3 * np.asarray(stream.alignment.mean), 0.1)
    norm = np.where(t > 150, stream.grad_norm, 1.0 + 0.1 * np.cos(t))
    norm[30:33] = 0.05
    stream = replaced(
        stream,
        loss__value=stream.loss.value
        + np.float32(offset + hill + 3 * (t >= 30) * (t < 33)),
        loss__fast=stream.loss.fast + np.float32(offset),
        loss__arrived=stream.loss.arrived | (t < 35),
        alignment__mean=jnp.asarray(alignment, jnp.float32),
        alignment__sem=0.3 * stream.alignment.sem,
        grad_norm=jnp.asarray(norm, jnp.float32),
    )
    nonfinite = (t >= 3) & (t < 6) | (t > 200) & np.repeat(rng.random(100) < 0.1, 5)
    log_scales = np.float32(rng.normal(size=500))
    state, (verdicts, shares) = judge_one(stream, log_scales, nonfinite, audited)
    twin, expected, warm = told(stream, log_scales, nonfinite, audited)
    assert twin.restores > 1 and twin.kinds & {"convicted", "acquitted"}
    for name, column in zip(verdicts._fields[:-1], expected, strict=True):
        seen = getattr(verdicts, name)
        np.testing.assert_allclose(seen, column, atol=1e-5, err_msg=name)
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
        "audit_steps": twin.length,
        "audit_agreed": twin.agreed,
        "audit_failures": twin.failures,
        "strikes": twin.strikes,
        "moved": twin.moved,
        "restoring": twin.back,
        "restores": twin.restores,
        "sentence": twin.sentence,
        "offences": twin.offences,
        "watched": twin.watched,
        "owed": twin.owed,
        "log_scale_before": twin.before,
        "bucket": twin.bucket,
        "skipped": twin.skipped,
        "unsettled": twin.unsettled,
        "keep_wait": twin.keep_wait,
        "trusted_log_scale": twin.trusted,
    }
    kept = [len(x) if isinstance(x, tuple) else 1 for x in state]
    assert len(remembered) == sum(kept)
    for name, x in remembered.items():
        np.testing.assert_allclose(
            optax.tree.get(state, name), x, rtol=1e-5, atol=1e-4, err_msg=name
        )


def hard_case(seed, length=240):
    """A start that may be opposed, then a level loss: near every threshold."""
    rng, t = np.random.default_rng(seed), np.arange(length)
    level, away, fast, block = (
        rng.choice(x)
        for x in ([1.0, 2.0, -3.0], [0, 0.1, 0.3], [0.3, 1, 3], [6, 8, 12, 30])
    )
    start = t < 25
    hills = np.repeat(rng.random(length // block) < 0.3, block)
    hills = np.pad(hills, (0, length - len(hills)))
    # After five bad batches the check is sound, again and again.
    hills = (t % 12 < 5 if seed % 5 == 0 else hills) & ~start
    value = level + 0.05 * rng.normal(size=length)
    value += 30.0 * (hills & (rng.random(length) < rng.choice([0.8, 0.97, 1])))
    value += rng.choice([1.0, 5.0]) * (start & (rng.random(length) < away))
    value[rng.random(length) < 0.02] += 0.6
    noise = rng.choice([0.05, 0.0])
    mean = np.where(start, rng.choice([-0.4, -0.15, 0.1]), 0.1)
    mean = mean + 0.1 * rng.normal(size=length)
    moves = rng.choice([0, 0.05]) if noise else 0
    fields = {
        "loss__value": value,
        "loss__change": np.diff(value, prepend=value[:1]),
        "loss__fast": level + moves * fast * rng.normal(size=length),
        "loss__noise": noise,
        "loss__trend": rng.choice([0.5, 1.5]) * rng.normal(size=length),
        "loss__drop": rng.choice([0.05, 0.3, 0.45]) + 0.1 * rng.normal(size=length),
        "loss__arrived": (rng.random(length) < 0.95) & (t >= rng.choice([0, 0, 15])),
        "alignment__mean": mean,
        "alignment__sem": rng.choice([0.03, 0.06, 0.1]),
        "alignment__slow": mean + rng.choice([0, 0.3]),
        "alignment__slow_sem": 0.05,
        "alignment__count": np.maximum(t - rng.choice([0, 3]), 0),
        "step_correlation__mean": rng.choice([0, 0.3, 0.6])
        + 0.2 * rng.normal(size=length),
        "grad_norm": np.where(rng.random(length) < 0.06, 0.05, 1.0),
    }
    walk = rng.choice([0, 0.05]) * np.cumsum(rng.normal(size=length))
    log_scales = rng.choice([0.0, -1.6, 1.0]) + 0.05 * rng.normal(size=length) + walk
    if seed % 5 == 0:  # a rate that falls: something is owed after each check
        log_scales = log_scales - 0.5 * t
    bad = rng.random(length) < 0.03
    bad |= np.repeat(rng.random(length // 6) < rng.choice([0, 0.2]), 6)
    return steps(length, **fields), np.float32(log_scales), bad


def check_reasons(verdicts):
    """A reason is given for each restore, and an answer only at the step after one."""
    kind = verdicts.reason.kind
    causes = (kind > 0) & (kind <= EventKind.RESTORED_NONFINITE)
    np.testing.assert_array_equal(causes, verdicts.restore)
    answers = (kind >= EventKind.START_FAILED) & (kind <= EventKind.ACQUITTED)
    assert not np.any(answers & ~verdicts.repeat)
    cut = np.isin(kind, [EventKind.START_FAILED, EventKind.CUT])
    assert np.all(verdicts.correction[cut] < 0)
    assert np.all(verdicts.correction[kind == EventKind.CUTS_UNDONE] > 0)
    assert np.all(verdicts.forget[kind == EventKind.NEW_DATA])
    # Every kind is reached by one of the streams.
    SEEN.update(kind[kind > 0].tolist())


SEEN = set()


def test_the_judges_agree_with_their_twin_and_each_condition_decides_somewhere():
    asked, decided, kinds = set(), set(), set()
    for audited, seeds in ((True, range(90)), (False, range(90, 130))):
        cases = [hard_case(seed) for seed in seeds]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *cases)
        _, (verdicts, shares) = judge_many(*stacked, audited)
        for i, case in enumerate(cases):
            twin, expected, warm = told(*case, audited)
            for name, column in zip(verdicts._fields[:-1], expected, strict=True):
                seen = getattr(verdicts, name)[i]
                np.testing.assert_allclose(seen, column, atol=1e-5, err_msg=name)
            np.testing.assert_allclose(shares[i], warm, rtol=1e-6)
            check_reasons(jax.tree.map(lambda x, i=i: np.asarray(x)[i], verdicts))
            asked |= twin.conditions.asked
            decided |= twin.conditions.decided
            kinds |= twin.kinds
    assert len(asked) > 40 and asked == decided, asked - decided
    assert kinds >= {f"sentenced, {n} before" for n in range(1, 6)}
    assert kinds >= {"agreement lost", "opposed"}
    assert kinds >= {"convicted", "acquitted", "taken back", "begun again"}
    assert len(SEEN) >= 13
