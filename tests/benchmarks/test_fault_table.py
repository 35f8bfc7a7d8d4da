"""What becomes of the runs with faults: programs, outcomes and their table."""

import json

import numpy as np
import pytest

from benchmarks.faults import listed, outcome, pool, table
from benchmarks.faults.arms import ARMS
from benchmarks.faults.command import faults as command
from benchmarks.faults.fault import Fault
from benchmarks.faults.listed import FAULTS, NONE
from benchmarks.faults.outcome import Cell, Outcome
from benchmarks.faults.pool import Program

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
