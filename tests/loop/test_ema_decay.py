"""`ema_decay`: over how many steps the fast means go, and the slow ones with them."""

import chex
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.loop.running import BARE, PARAMS, scan

STEPS = 40
LOSSES = np.float32(2 + np.random.default_rng(0).normal(size=STEPS))


def last(make=ao.adaptive_sgd, **options):
    """The state after some noisy losses and a gradient that stays."""
    tx = make(0.1, freeze_threshold=1.0, **BARE, **options)
    grads = [PARAMS] * STEPS
    return scan(tx, PARAMS, tx.init(PARAMS), grads, value=LOSSES)[1][-1]


@pytest.fixture(scope="module")
def default():
    return last()


def test_the_default_is_nine_tenths(default):
    chex.assert_trees_all_equal(last(ema_decay=0.9), default)
    chex.assert_trees_all_equal(last(law=ao.Law(ema_decay=0.9)), default)


def test_the_means_of_loss_and_norms_follow_it(default):
    found = {0.9: default, 0.98: last(ema_decay=0.98)}
    for decay, state in found.items():
        weights = decay ** np.arange(STEPS - 1, -1, -1.0)
        fast = weights @ LOSSES / weights.sum()
        assert ao.snapshot(state)["loss_fast"] == pytest.approx(fast, rel=1e-5)
        seen = 1 - decay**STEPS
        np.testing.assert_allclose(state.freezing.freeze_norm_weight, seen, rtol=1e-5)


def test_a_freeze_has_its_own():
    freeze = ao.Freeze(1.0, ema_decay=0.5)
    tx = ao.adaptive_scheduler(optax.sgd, 0.1, freeze=freeze, ema_decay=0.98)
    assert tx.update.stages.about.freeze.ema_decay == 0.5  # type: ignore
    assert tx.update.stages.about.law.ema_decay == 0.98  # type: ignore


@pytest.mark.parametrize("decay", [1e-200, 1 - 1e-16])
def test_a_decay_without_digits_is_refused(decay):
    with pytest.raises(ValueError, match="`ema_decay` must lie further from 0 and 1"):
        ao.adaptive_sgd(0.1, ema_decay=decay)


@pytest.mark.parametrize(
    "make", [ao.adaptive_adam, ao.adaptive_adamw, ao.online_sgd, ao.online_adagrad]
)
def test_ready_made_optimizers_take_it(make):
    assert make(0.1, ema_decay=0.98).update.stages.about.law.ema_decay == 0.98
