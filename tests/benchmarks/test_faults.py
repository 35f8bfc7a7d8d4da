"""Every fault does what its name says, and the table says what it did."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.contract import Peer
from benchmarks.families import _data
from benchmarks.faults import fault as faults_
from benchmarks.faults import listed, outcome, pool, table, training
from benchmarks.faults.arms import ARMS, OURS, skip_spikes
from benchmarks.faults.command import faults as command
from benchmarks.faults.fault import LATE, STALE, WIDE, Fault
from benchmarks.faults.listed import FAULTS, NONE
from benchmarks.faults.outcome import Cell, Outcome
from benchmarks.faults.pool import Program
from benchmarks.faults.tasks import RATES, TASKS, Task

TINY = Task(_data.digits, (64, 8, 10), 16)
STEPS, EVERY = 24, 4
GRADIENT, DRAW = jax.jit(jax.value_and_grad(TINY.loss)), jax.jit(TINY.draw)
GRADS = {"a": jnp.ones(2), "b": jnp.full(3, 2.0)}


def active_steps(fault):
    steps = jnp.arange(training.HORIZON)
    return np.flatnonzero(jax.vmap(lambda step: faults_.is_active(fault, step))(steps))


@pytest.mark.parametrize(
    "name, first, count",
    [
        ("1 infinite loss, late", LATE, 1),
        ("40 infinite losses, late", LATE, 40),
        ("10 infinite losses from step 30", 30, 10),
        ("3 infinite losses every 100 steps", 100, 27),
        ("every second loss infinite, late", LATE, 300),
        ("9 of 10 losses infinite, late", LATE, 540),
        ("NaN loss reported at 4 of 5 steps", 1, 800),
        ("loss reported every 10th step, NaN between", 1, 900),
        ("NaN in all gradients, 5 of 100 steps", 100, 45),
        ("12 infinite gradients from step 15", 15, 12),
        ("300 batches of random labels at the start", 0, 300),
        ("rate x1e4 for 15 steps", LATE, 15),
        ("rate x1e4 for good", LATE, 600),
    ],
)
def test_a_fault_acts_when_its_name_says(name, first, count):
    steps = active_steps(FAULTS[name])
    assert (steps[0], len(steps)) == (first, count)


def test_a_loss_every_tenth_step_is_reported_at_every_tenth_step():
    steps = active_steps(FAULTS["loss reported every 10th step, NaN between"])
    silent = np.setdiff1d(np.arange(training.HORIZON), steps)
    np.testing.assert_array_equal(silent, np.arange(0, training.HORIZON, 10))


def effects(fault, active):
    """All that a fault can change, of a step with loss 2."""
    x, labels = jnp.arange(49.0), jnp.zeros(4, int)
    return {
        "loss": faults_.reported_loss(fault, active, jnp.float32(2.0), jnp.float32(3)),
        "gradient": faults_.reported_gradient(fault, active, GRADS),
        "rate": faults_.base_rate(fault, active, jnp.float32(0.1)),
        "labels": faults_.labels_of(fault, active, labels, labels + 1),
        "input": faults_.permuted_input(fault, active, x),
        "weights": faults_.weights_of(fault, active, 4),
        "start": faults_.start_of(fault, GRADS),
        "accumulate": jnp.asarray(fault.accumulate),
    }


def changed(fault, active=True):
    """The names of what a fault changes."""
    healthy, found = effects(Fault(), active), effects(fault, active)
    return {
        name
        for name in healthy
        if not all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(
                jax.tree.leaves(healthy[name]),
                jax.tree.leaves(found[name]),
                strict=True,
            )
        )
    }


@pytest.mark.parametrize("name", [name for name in FAULTS if name != NONE])
def test_a_fault_changes_what_its_name_says_and_nothing_else(name):
    expected = {
        "infinite loss|loss infinite|losses infinite": {"loss", "gradient"},
        "loss.* reported": {"loss"},
        "gradient": {"gradient"},
        "labels": {"labels"},
        "^rate": {"rate"},
        "^initialisation": {"start"},
        "^features": {"input"},
        "^batch": {"weights"},
        "^4 gradients": {"accumulate"},
        "^loss x1e6": {"loss"},
        "^loss and gradient": {"loss", "gradient"},
    }
    matching = [what for pattern, what in expected.items() if re.search(pattern, name)]
    assert changed(FAULTS[name]) == matching[-1]
    for_all_steps = {"start", "accumulate"}
    assert changed(FAULTS[name], active=False) <= for_all_steps


def test_losses_as_reported():
    def told(fault, loss=2.0):
        loss, before = jnp.float32(loss), jnp.float32(5.0)
        return float(faults_.reported_loss(fault, True, loss, before))

    assert told(FAULTS["loss x1e6 once"]) == 2e6
    assert told(FAULTS["loss reported - 7"]) == -5.0
    assert told(FAULTS["loss reported as 1"], np.inf) == 1.0
    assert told(FAULTS["loss reported /8, late"]) == 0.25
    assert told(FAULTS["loss reported 20 steps late"]) == 5.0
    assert told(FAULTS["3 infinite losses, late"]) == np.inf
    assert np.isnan(told(FAULTS["NaN loss reported at 4 of 5 steps"]))


def test_one_leaf_or_all():
    def bad(name):
        found = faults_.reported_gradient(FAULTS[name], jnp.array(True), GRADS)
        return [bool(~jnp.isfinite(leaf).any()) for leaf in found.values()]

    assert bad("NaN in one leaf's gradient, once") == [False, True]
    assert bad("NaN in all gradients, once") == [True, True]
    assert bad("3 infinite losses, late") == [True, True]


def test_a_wide_batch_counts_all_its_rows_alike_and_a_permutation_loses_none():
    narrow = faults_.weights_of(Fault(wide=True), jnp.array(False), 4)
    wide = faults_.weights_of(Fault(wide=True), jnp.array(True), 4)
    np.testing.assert_allclose(narrow, [0.25] * 4 + [0.0] * 4 * (WIDE - 1))
    np.testing.assert_allclose(wide, [1 / (4 * WIDE)] * 4 * WIDE)
    x = jnp.arange(49)
    moved = faults_.permuted_input(Fault(permuted=True), jnp.array(True), x)
    assert sorted(moved.tolist()) == x.tolist() != moved.tolist()


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


CELL = Cell("digits", "adam", "rate x1e4 once", "nudge")


def test_steps_lost():
    healthy = np.array([0.5, 0.8, 0.9, 0.95, 0.95])
    fault = Fault(20)
    lost = [
        outcome.steps_lost(fault, healthy - np.array(behind), healthy, 10)
        for behind in (
            [0] * 5,
            [0.3, 0.3, 0, 0, 0],  # before the fault
            [0, 0, 0.3, 0.005, 0],
            [0, 0, 0.3, 0.1, 0.02],
        )
    ]
    assert lost == [0, 0, 10, 30]


def results():
    """Two faults, three arms; plain dies of the first and ours of the second."""
    names = (NONE, "NaN in all gradients, once", "rate x1e4 once")
    finals = {
        "plain": (0.95, 0.1, 0.9),
        "apply_if_finite": (0.95, 0.94, 0.9),
        "nudge": (0.96, 0.935, 0.5),
    }
    for arm, ends in finals.items():
        curves = np.full((2, 3, 2, 50), 0.95)
        curves[..., -1] = np.array(ends)[:, None]
        yield Program("digits", "adam", arm, names, (0, 1)), curves


def test_the_table_holds_ours_against_the_better_of_plain_and_the_guard():
    found = outcome.outcomes(results(), 20)
    assert found[CELL] == Outcome(0.5, 0.5, (0.5, 0.5), 20)
    assert outcome.harm(found, CELL) == pytest.approx(0.4)
    (line,) = table.headlines(found)
    assert line.startswith("`nudge`: 1 of 2 cells are harmed by more than a point")
    assert "nudge 71.8, plain 50.0, apply_if_finite 92.0" in line
    page = table.text(found, "# Title")
    assert "| rate x1e4 once | 90.0 (20) | 90.0 (20) | **50.0** (20) |" in page
    assert "| plain | 50.0 | 50.0 | 1 of 2 |" in page
    stored = json.loads(table.dumped({"seeds": 2}, found))
    assert stored["seeds"] == 2 and len(stored["cells"]) == 9
    assert stored["cells"][-1] == {
        **CELL._asdict(),
        "accuracy": 0.5,
        "last": 0.5,
        "lost": 20,
        "harm": 0.4,
        "seeds": [0.5, 0.5],
    }


def test_faults_of_another_form_get_a_program_of_their_own():
    wanted = pool.programs(["digits"], ["sgd"], list(ARMS), list(FAULTS), range(5))
    assert len(wanted) == 2 * len(ARMS)
    assert wanted[0].arm == "safe"
    structural = {name for name in FAULTS if FAULTS[name].is_structural()}
    assert {frozenset(program.faults) for program in wanted} == {
        frozenset(structural),
        frozenset(FAULTS) - structural,
    }
    assert len({pool.key(program) for program in wanted}) == len(wanted)


def test_a_finished_program_is_not_run_again(tmp_path, monkeypatch):
    program, ran = Program("digits", "sgd", "plain", (NONE,), (0,)), []

    def compute(program):
        ran.append(program)
        return np.zeros((2, 1, 1, 50)), 1.0

    monkeypatch.setattr(pool, "compute", compute)
    runs = [list(pool.run([program], cache=tmp_path, workers=1)) for _ in range(2)]
    assert [seconds for ((_, _, seconds),) in runs] == [1.0, None]
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"damaged")
    list(pool.run([program], cache=tmp_path, workers=1))
    assert ran == [program] * 2


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no fault's name contains 'cosmic'"):
        listed.named(("cosmic",))
    with pytest.raises(ValueError, match="unknown task 'mnits'; .* digits, mnist"):
        command(task=("mnits",))
    with pytest.raises(ValueError, match="`seeds` must be at least 1, got 0"):
        command(seeds=0)
    assert list(listed.named(("rate x30",))) == [NONE, "rate x30 for good"]
