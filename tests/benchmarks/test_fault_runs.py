"""A run with a fault is a plain training loop that is told what the fault says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.contract import Peer
from benchmarks.families import _data
from benchmarks.faults import fault as faults_
from benchmarks.faults import training
from benchmarks.faults.arms import ARMS, OURS, skip_spikes
from benchmarks.faults.fault import STALE, WIDE, Fault
from benchmarks.faults.tasks import RATES, TASKS, Task

TINY = Task(_data.digits, (64, 8, 10), 16)
STEPS, EVERY = 24, 4
GRADIENT, DRAW = jax.jit(jax.value_and_grad(TINY.loss)), jax.jit(TINY.draw)


def _told(inner, rate, horizon):
    """Descend by the rate times the loss that it is told."""
    del inner, horizon

    def update(updates, state, params=None, *, value):
        del params
        return jax.tree.map(lambda g: -rate * value * g, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


TOLD = Peer("told", _told)


def by_hand(rate, events, *, told=False, optimizer=optax.sgd):
    """Accuracies of a plain training loop in which ``events(step)`` are what happens.

    Event names: ``skip``, ``rate``, ``random``, ``offset``, ``zero``, ``stale``,
    ``permuted`` and ``wide``.
    """
    keys = jax.random.split(jax.random.key(3))
    params, losses, found = TINY.init(keys[0]), [], []
    state = optimizer(rate).init(params)
    update = jax.jit(lambda rate, *known: optimizer(rate).update(*known))
    order = np.random.default_rng(0).permutation(64)
    for step in range(STEPS):
        now = events(step)
        rows = TINY.batch * (WIDE if "wide" in now else 1)
        x, labels, others = DRAW(jax.random.fold_in(keys[1], step))
        x = x[:, order] if "permuted" in now else x
        labels = others if "random" in now else labels
        loss, grads = GRADIENT(params, x[:rows], labels[:rows], 1 / rows)
        losses.append(loss)
        value = losses[max(step - STALE, 0)] if "stale" in now else loss
        value = value - 7 if "offset" in now else value
        size = rate * (10 if "rate" in now else 1) * (0 if "zero" in now else 1)
        if told:
            updates = jax.tree.map(lambda g: -size * value * g, grads)  # noqa: B023
        elif "skip" not in now:
            updates, state = update(size, grads, state, params)
        if "skip" not in now:
            params = optax.apply_updates(params, updates)
        if (step + 1) % EVERY == 0:
            test_x = TINY.load().test_x
            test_x = test_x[:, order] if "permuted" in now else test_x
            found.append(TINY.accuracy(params, test_x))
    return np.array(found)


def trained(arm, faults, rate, optimizer="sgd"):
    found = training.accuracies(
        TINY, optimizer, rate, arm, faults, [3], horizon=STEPS, every=EVERY
    )
    np.testing.assert_array_equal(found[0], found[1])  # it names no parameters
    return found[0, :, 0]


def always(*events):
    return lambda step: events


def at(first, stop, *events):
    return lambda step: events if first <= step < stop else ()


CLOSE = {"atol": 1.01 / 500}  # an image


def test_the_run_is_a_plain_training_loop_told_what_the_fault_says():
    cases = [
        (Fault(), always()),
        (Fault(6, 9, rate_scale=10.0), at(6, 9, "rate")),
        (Fault(0, 8, random_labels=True), at(0, 8, "random")),
        (Fault(9, 21, value_shift=-7.0), at(9, 21, "offset")),
        (Fault(4, 12, grad_scale=0.0), at(4, 12, "zero")),
        (Fault(0, stale=True), always("stale")),
    ]
    found = trained(TOLD, [fault for fault, _ in cases], 0.05)
    for (_, events), curve in zip(cases, found, strict=True):
        np.testing.assert_allclose(curve, by_hand(0.05, events, told=True), **CLOSE)
    assert len({tuple(curve) for curve in found}) == len(cases)


def test_plain_without_a_fault_is_plain_and_the_guard_drops_bad_steps():
    faults = [Fault(), Fault(5, 8, grad_shift=np.nan), Fault(5, value_shift=np.nan)]
    healthy = by_hand(0.01, always(), optimizer=optax.adam)
    dropped = by_hand(0.01, at(5, 8, "skip"), optimizer=optax.adam)
    plain = trained(ARMS["plain"], faults, 0.01, "adam")
    guarded = trained(ARMS["apply_if_finite"], faults, 0.01, "adam")
    zeros = np.mean(TINY.load().test_labels == 0)  # a NaN names every image 0
    for found, second in ((plain, [healthy[0], *[zeros] * 5]), (guarded, dropped)):
        for curve, expected in zip(found, (healthy, second, healthy), strict=True):
            np.testing.assert_allclose(curve, expected, **CLOSE)


def test_a_program_with_other_batches_is_the_same_program():
    faults = [
        Fault(faults_.ENDLESS, permuted=True),
        Fault(8, permuted=True),
        Fault(8, wide=True),
        Fault(0, accumulate=3),
    ]
    found = trained(ARMS["plain"], faults, 0.05)

    def sgd(rate, every=1):
        return optax.MultiSteps(optax.sgd(rate, momentum=0.9), every)

    by_threes = functools.partial(sgd, every=3)
    for curve, events, optimizer in zip(
        found,
        (always(), at(8, STEPS, "permuted"), at(8, STEPS, "wide"), always()),
        (sgd, sgd, sgd, by_threes),
        strict=True,
    ):
        expected = by_hand(0.05, events, optimizer=optimizer)
        np.testing.assert_allclose(curve, expected, **CLOSE)
    assert len({tuple(curve) for curve in found}) == len(faults)
    with pytest.raises(ValueError, match="a program each"):
        trained(ARMS["plain"], [Fault(), faults[0]], 0.05)


def test_a_spike_is_skipped_and_a_nan_stays_in_the_history():
    tx = skip_spikes(optax.sgd(1.0, momentum=0.5), interval=8, deviations=6.0)
    state, moved = tx.init(jnp.zeros(2)), []
    update = jax.jit(lambda state, value: tx.update(jnp.ones(2), state, value=value))
    values = [1.0, 1.1] * 4 + [50.0] + [1.0, 1.1] * 4 + [np.nan] + [1.0] * 9
    for value in values:
        updates, new = update(state, jnp.float32(value))
        moved.append(bool(jnp.any(updates != 0)))
        if not moved[-1]:  # the momentum waits
            jax.tree.map(
                np.testing.assert_array_equal, new.spike_inner, state.spike_inner
            )
        state = new
    skipped = np.flatnonzero(~np.array(moved)).tolist()
    assert skipped == [8, *range(17, 26)]


def test_every_arm_trains_every_task():
    assert set(OURS) <= set(ARMS) and all(ARMS[name].ours for name in OURS)
    assert {task for task, _ in RATES} == set(TASKS)
