"""Every fault does what its name says, at the steps that it says, and nothing else."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.faults import fault as faults_
from benchmarks.faults import training
from benchmarks.faults.fault import LATE, WIDE, Fault
from benchmarks.faults.listed import FAULTS, NONE

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
