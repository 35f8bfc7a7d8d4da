"""A rate that was thrown away for nothing is tried again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax.supervise import supervisor
from tests.rules.signal_streams import one_step, records, replaced
from tests.supervise.driving import LAW, judge_on
from tests.supervise.judges_twin import Judges


def retried(losses, *, start="opposed", held_until=0, gain=0.3, wait=40):
    """Fail a start at 0, pass at a tenth, ``wait`` at a loss of 2: then ``losses``.

    Beside the judges goes their twin; both have to say the same of every step.
    """
    quiet = one_step(
        loss__value=2.0,
        loss__fast=2.0,
        loss__noise=0.1,
        loss__drop=gain,
        alignment__count=0,
    )
    quiet = replaced(quiet, loss__trend=0.0, loss__long_trend=0.0)
    state, m, twin, path = supervisor.init_judges(LAW), 0.0, Judges(), []
    opposed = {
        "alignment__mean": -0.9,
        "alignment__count": 9,
        "step_correlation__mean": 0.5,
    }
    bad = {"high": [{"loss__value": 50.0}] * 3, "opposed": [opposed]}[start]
    for t, change in enumerate([{}] * 3 + bad + [{}] * (20 + wait) + losses):
        signals = replaced(quiet, loss__count=t, **change)
        held = 0 < t < held_until
        expected = twin.weigh(
            next(records(jax.tree.map(lambda x: x[None], signals))),
            float(m),
            False,
            held,
        )
        verdict, state, m = judge_on(state, signals, m, held)
        np.testing.assert_allclose(verdict, expected, atol=1e-5)
        path.append(float(m))
    for name, x in {
        "retrying": twin.retrying,
        "retry_from": twin.retry_from,
        "retry_log_scale": twin.again_at,
        "trusted_log_scale": twin.trusted,
        "diverged_log_scale": twin.ceiling,
    }.items():
        np.testing.assert_allclose(
            optax.tree.get(state, name), x, rtol=1e-5, err_msg=name
        )
    return np.asarray(path), state, twin.verdicts


def at(loss, times=1, **more):
    return [{"loss__value": loss, "loss__fast": loss, **more}] * times


def test_a_start_that_was_opposed_and_no_more_is_retried_where_the_loss_stands_still():
    path, state, verdicts = retried([{}] * 60)
    assert verdicts >= {"failed", "late", "retry begins"}
    low = path.min()
    assert low < np.log(0.1)
    assert path[-1] == pytest.approx(0.0, abs=1e-6)
    climb = path[path.argmin() :]
    steps = np.diff(climb[: np.argmax(climb > -1e-6)])
    assert steps[steps > 0].max() == pytest.approx(LAW.retry.pace)
    assert int(state.retry.retrying) > 0 and np.isneginf(state.retry.retry_log_scale)
    assert float(state.trusted_log_scale) == pytest.approx(low)
    _, state, verdicts = retried([{}] * 300)
    assert int(state.retry.retrying) == 0 and "retry is over" in verdicts


def test_a_retry_that_lets_the_loss_rise_is_the_last():
    # By a sixth: nothing that the guard would see.
    path, state, verdicts = retried([{}] * 20 + at(2.35, 3) + [{}] * 80)
    assert verdicts >= {"retry begins", "retry fails", "convicted"}
    assert path[-1] == path.min() and int(state.restores) == 2
    assert int(state.retry.retrying) == 0 and np.isposinf(state.diverged_log_scale)


def test_a_bad_batch_is_no_fault_of_a_retry():
    # The average has it for a while; the losses after it are what they were.
    spike = at(20.0) + [{"loss__fast": 2.0 + 1.8 * 0.9**k} for k in range(20)]
    path, state, verdicts = retried([{}] * 20 + spike + [{}] * 40)
    assert "retry begins" in verdicts and "retry fails" not in verdicts
    assert path[-1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", [2.6, 20.0])
def test_a_change_of_the_data_is_no_fault_of_a_retry(loss):
    # With the good parameters back the loss is as high, so it may be tried again.
    path, state, verdicts = retried([{}] * 20 + at(loss, 160))
    assert verdicts >= {"retry fails", "retry acquitted"}
    assert path[-1] == pytest.approx(0.0, abs=1e-6)


def test_a_retry_has_succeeded_when_the_loss_has_halved():
    halved, high = at(0.9, 30, loss__drop=0.55), at(1.2, 10, loss__drop=0.55)
    path, state, verdicts = retried([{}] * 40 + halved + high)
    assert verdicts >= {"retry begins", "retry succeeds"}
    assert int(state.retry.retrying) == 0 and int(state.restores) == 1
    assert path[-1] > path.min() + 0.5


def test_a_divergence_at_the_lower_rate_ends_all_thought_of_a_higher_one():
    quiet = [{"loss__trend": -9.0}]
    path, state, verdicts = retried(quiet * 40 + at(500.0, 3) + [{}] * 100, wait=0)
    assert verdicts >= {"diverged", "convicted"} and "retry begins" not in verdicts
    assert path[-1] == path.min() and np.isfinite(state.diverged_log_scale)


def test_a_retry_never_fails_upwards():
    # Its rate has been lowered below where it began: the guard's own cut is made.
    state = supervisor.init_judges(LAW._replace(audit=None))
    state = state._replace(
        retry=state.retry._replace(
            retrying=jnp.int32(99), retry_from=jnp.float32(-3.0)
        ),
        levels=state.levels._replace(
            good_value=jnp.float32(2.0),
            good_noise=jnp.float32(0.1),
            first_value=jnp.float32(2.0),
            lowest_value=jnp.float32(2.0),
        ),
        strikes=jnp.int32(2),
    )
    high = one_step(loss__value=3.0, loss__fast=3.0, loss__noise=0.1, loss__drop=0.0)
    for m, jump in ((-2.0, -1.0), (-4.0, np.log(0.25))):
        verdict, after, _ = judge_on(state, high, m, False)
        assert bool(verdict.restore) and float(verdict.correction) == pytest.approx(
            jump
        )
        assert np.isfinite(after.diverged_log_scale) == (m == -4.0)


def test_a_retry_climbs_only_on_steps_that_are_judged():
    path, state, verdicts = retried([{}] * 12 + [{"loss__arrived": False}] * 50)
    assert "retry begins" in verdicts
    assert path[-1] == path[-51] < -1


@pytest.mark.parametrize(
    "options",
    [{"start": "high"}, {"gain": 0.5}, {"held_until": 1000}],
    ids=["the loss was high", "it has halved", "held"],
)
def test_no_retry(options):
    path, state, verdicts = retried([{}] * 60, **options)
    assert int(state.retry.retrying) == 0 and "retry begins" not in verdicts
    if options.get("gain") != 0.5:
        assert "failed" in verdicts and path[-1] == path.min() < 0


def test_no_retry_begins_above_what_it_would_be_suspicious_at():
    # Its copy would be kept where the loss is higher than that of the last one.
    path, state, verdicts = retried([{}] * 2 + at(2.6, 60), wait=0)
    assert "failed" in verdicts and "retry begins" not in verdicts
    assert path[-1] == path.min() < 0 and int(state.retry.retrying) == 0
