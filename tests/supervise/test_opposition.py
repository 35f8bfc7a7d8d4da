"""Starts that gradients oppose."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax.supervise import supervisor
from tests.rules.signal_streams import one_step
from tests.supervise.driving import LAW, first, judge_on


def starts_over(state, *steps, law=LAW):
    """Whether the last of these steps throws the start away.

    If it does and the first parameters' loss is sound, the start has failed.
    """
    for signals in steps:
        verdict, state, _ = judge_on(state, signals, 0.0, law)
    _, state, _ = judge_on(state, one_step(), 0.0, law)
    assert int(state.audit.audit_failures) == verdict.restore
    assert bool(verdict.restart) == bool(verdict.restore)
    return bool(verdict.restore)


def begun(value=1.0):
    """The judges after a first loss."""
    return supervisor.init_judges(LAW)._replace(levels=first(jnp.float32(value)))


@pytest.mark.parametrize(
    "gain, persistence, fails",
    [(0.4, 0.5, 1), (0.6, 0.5, 0), (-3.0, 0.5, 1), (0.05, 0.0, 1), (0.2, 0.0, 0)],
)
def test_opposition_is_no_failure_once_the_loss_has_halved(gain, persistence, fails):
    # Without memory steps are opposed at every rate: there the loss need only fall.
    signals = one_step(
        alignment__mean=-0.5,
        alignment__slow=-0.5,
        loss__drop=gain,
        alignment__count=25,
        step_correlation__mean=persistence,
    )
    assert starts_over(begun(), signals) == fails


@pytest.mark.parametrize("trend, fails", [(0.9, 1), (1.1, 0)])
def test_opposition_is_no_failure_while_the_loss_clearly_falls(trend, fails):
    signals = one_step(
        alignment__mean=-0.5,
        alignment__count=25,
        step_correlation__mean=0.5,
        loss__trend=trend,
    )
    assert starts_over(begun(), signals) == fails


@pytest.mark.parametrize("trust, fails", [(3.0, 1), (6.0, 0), (np.inf, 0)])
def test_the_more_the_base_rate_is_trusted_the_more_opposition_it_takes(trust, fails):
    signals = one_step(
        alignment__mean=-0.12,
        alignment__sem=0.1,
        alignment__count=25,
        step_correlation__mean=0.5,
    )
    assert starts_over(begun(), signals, law=LAW._replace(trust=trust)) == fails


@pytest.mark.parametrize(
    "before, count, persistence, gain, fails",
    [
        (0.3, 8, 0.5, 0.4, 1),
        (0.11, 8, 0.5, 0.4, 0),
        (0.3, 7, 0.5, 0.4, 0),
        (0.3, 8, -0.1, 0.4, 0),
        (0.3, 8, 0.5, 0.6, 0),
    ],
    ids=["agreed", "unclear", "too early to tell", "turns with the gradient", "halved"],
)
def test_an_agreement_that_ends_in_the_warm_up_has_been_outrun(
    before, count, persistence, gain, fails
):
    step = functools.partial(
        one_step, step_correlation__mean=persistence, loss__trend=5.0, loss__drop=gain
    )
    agrees = step(
        alignment__mean=before,
        alignment__slow=before,
        alignment__slow_sem=0.1,
        alignment__count=count,
    )
    over = step(
        alignment__mean=-0.11,
        alignment__sem=0.1,
        alignment__slow=0.1,
        alignment__slow_sem=0.1,
        alignment__count=12,
    )
    _, state, _ = judge_on(supervisor.init_judges(LAW), agrees, 0.0)
    assert bool(state.audit.audit_agreed) == (before > 0.2 and count > 7)
    assert starts_over(state, over) == fails


def test_without_a_reading_no_start_is_opposed():
    # The loss was not finite: it is not known whether it falls.
    opposed = {"alignment__mean": -0.5, "alignment__count": 25}
    assert starts_over(begun(), one_step(**opposed))
    assert not starts_over(begun(), one_step(loss__arrived=False, **opposed))
