"""Curves as figures: what a run is worth at its end, and how long the fault hurt."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from benchmarks.faults.arms import UNGUARDED
from benchmarks.faults.fault import Fault
from benchmarks.faults.listed import FAULTS, NONE
from benchmarks.faults.pool import Program

POINT = 0.01  # of accuracy


class Cell(NamedTuple):
    """Where a figure stands in the table."""

    task: str
    optimizer: str
    fault: str
    arm: str


class Outcome(NamedTuple):
    """What a fault left of an arm. Accuracies are means over the seeds."""

    accuracy: float  # at the end, of the parameters that the arm names
    last: float  # at the end, of the last iterate
    seeds: tuple[float, ...]  # the first of these, by seed
    lost: int  # steps


Table = dict[Cell, Outcome]


def outcomes(results: Iterable[tuple[Program, np.ndarray]], every: int) -> Table:
    """One outcome for each task, optimizer, fault and arm.

    Args:
      results: Programs and their f32[2, faults, seeds, evaluations]; `NONE` is among
        the faults of each task, optimizer and arm.
      every: Steps between two evaluations.
    """
    curves = {
        Cell(program.task, program.optimizer, fault, program.arm): found[:, i]
        for program, found in results
        for i, fault in enumerate(program.faults)
    }
    table = {}
    for cell, (last, own) in curves.items():
        healthy = curves[cell._replace(fault=NONE)][1]
        table[cell] = Outcome(
            accuracy=float(own[:, -1].mean()),
            last=float(last[:, -1].mean()),
            seeds=tuple(float(x) for x in own[:, -1]),
            lost=steps_lost(FAULTS[cell.fault], own.mean(0), healthy.mean(0), every),
        )
    return table


def steps_lost(fault: Fault, curve: np.ndarray, healthy: np.ndarray, every: int) -> int:
    """Count the steps since the fault at which the run was more than a point behind.

    Behind the same arm without a fault, that is, at the same step. A run that falls
    behind at once and comes back has lost the steps until then; one that never comes
    back has lost all that were left.

    Args:
      fault: Its first step is where the count begins.
      curve: f32[evaluations], accuracy under the fault, mean over the seeds.
      healthy: f32[evaluations], without it.
      every: Steps between two evaluations, the first of them after as many.
    """
    steps = every * (np.arange(len(curve)) + 1)
    behind = (curve < healthy - POINT) & (steps > fault.start)
    return int(every * behind.sum())


def harm(table: Table, cell: Cell) -> float:
    """How much more accurate the better of `UNGUARDED` is under the same fault."""
    best = max(table[cell._replace(arm=arm)].accuracy for arm in UNGUARDED)
    return best - table[cell].accuracy
