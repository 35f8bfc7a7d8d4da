"""The table as Markdown and as JSON."""

import json
from typing import Any

import numpy as np

from benchmarks import markdown
from benchmarks.faults.arms import OURS, UNGUARDED
from benchmarks.faults.listed import NONE
from benchmarks.faults.outcome import POINT, Cell, Table, harm

WORST = 25  # rows

READING = """
*Accuracy* is that on the test set at the end, in per cent, the mean over the seeds: of
ours that of `ao.eval_params`, of the others that of the last iterate. *Harm* is how
much less accurate an arm is than the better of plain and `apply_if_finite` under the
same fault, in points; harm of more than one is **bold**. *Steps lost*, in brackets: the
steps since the fault began at which the run was more than a point behind the same arm
without a fault. A run whose parameters are NaN names every image 0 and has a tenth
right.
""".strip()


def text(table: Table, title: str) -> str:
    """The whole page: a line for each mode, the worst cells, everything."""
    parts = [
        title,
        *headlines(table),
        READING,
        "## By arm\n\n" + _by_arm(table),
        f"## The worst {WORST} cells of ours\n\n" + _worst(table),
    ]
    for task, optimizer in _settings(table):
        parts.append(
            f"## {task}, {optimizer}\n\n" + _everything(table, task, optimizer)
        )
    return "\n\n".join(parts) + "\n"


def headlines(table: Table) -> list[str]:
    """One line for each mode: how many cells are harmed, and the mean accuracy."""
    lines = []
    for mode in _arms(table, OURS):
        cells = _cells(table, mode)
        harmed = sum(harm(table, cell) > POINT for cell in cells)
        means = ", ".join(
            f"{arm} {_mean(table, arm):.1f}" for arm in (mode, *UNGUARDED)
        )
        lines.append(
            f"`{mode}`: {harmed} of {len(cells)} cells are harmed by more than a "
            f"point; mean accuracy over all faults: {means}."
        )
    return lines


def rows(table: Table) -> list[dict[str, Any]]:
    """Every cell as a JSON object."""
    return [
        {
            **cell._asdict(),
            "accuracy": round(outcome.accuracy, 4),
            "last": round(outcome.last, 4),
            "lost": outcome.lost,
            "harm": round(harm(table, cell), 4),
            "seeds": [round(x, 4) for x in outcome.seeds],
        }
        for cell, outcome in table.items()
    ]


def dumped(head: dict[str, Any], table: Table) -> str:
    """The JSON file, a line for each cell."""
    lines = ",\n".join(json.dumps(row) for row in rows(table))
    fields = [f"{json.dumps(name)}: {json.dumps(x)}" for name, x in head.items()]
    return "{\n" + ",\n".join([*fields, f'"cells": [\n{lines}\n]']) + "\n}\n"


def _by_arm(table: Table) -> str:
    """Mean accuracy over the faults, and how many cells are harmed."""
    settings = _settings(table)
    head = ["arm", *(f"{task}, {opt}" for task, opt in settings), "all", "harmed"]
    found = []
    for arm in _arms(table):
        cells = _cells(table, arm)
        of_each = [
            np.mean([table[c].accuracy for c in cells if c[:2] == one])
            for one in settings
        ]
        harmed = sum(harm(table, cell) > POINT for cell in cells)
        found.append(
            [
                arm,
                *(f"{100 * x:.1f}" for x in of_each),
                f"{_mean(table, arm):.1f}",
                f"{harmed} of {len(cells)}",
            ]
        )
    return "Mean accuracy over all faults.\n\n" + markdown.table(head, found)


def _worst(table: Table) -> str:
    """The cells of ours that are harmed most."""
    cells = [cell for mode in _arms(table, OURS) for cell in _cells(table, mode)]
    cells.sort(key=lambda cell: -harm(table, cell))
    head = ["fault", "task", "mode", *UNGUARDED, "ours", "its last", "harm", "lost"]
    return markdown.table(
        head,
        (
            [
                cell.fault,
                f"{cell.task}, {cell.optimizer}",
                cell.arm,
                *(
                    f"{100 * table[cell._replace(arm=arm)].accuracy:.1f}"
                    for arm in UNGUARDED
                ),
                f"{100 * table[cell].accuracy:.1f}",
                f"{100 * table[cell].last:.1f}",
                f"{100 * harm(table, cell):.1f}",
                table[cell].lost,
            ]
            for cell in cells[:WORST]
        ),
    )


def _everything(table: Table, task: str, optimizer: str) -> str:
    """Faults down, arms across: accuracy (steps lost)."""
    arms = _arms(table)

    def shown(cell: Cell) -> str:
        outcome = table[cell]
        number = f"{100 * outcome.accuracy:.1f}"
        if cell.arm in OURS and harm(table, cell) > POINT:
            number = f"**{number}**"
        return f"{number} ({outcome.lost})"

    faults = dict.fromkeys(cell.fault for cell in table)
    return markdown.table(
        ["fault", *arms],
        (
            [fault, *(shown(Cell(task, optimizer, fault, arm)) for arm in arms)]
            for fault in faults
        ),
    )


def _settings(table: Table) -> list[tuple[str, str]]:
    return list(dict.fromkeys((cell.task, cell.optimizer) for cell in table))


def _arms(table: Table, among: tuple[str, ...] = ()) -> list[str]:
    found = dict.fromkeys(cell.arm for cell in table)
    return [arm for arm in found if not among or arm in among]


def _cells(table: Table, arm: str) -> list[Cell]:
    """The cells of an arm that have a fault."""
    return [cell for cell in table if cell.arm == arm and cell.fault != NONE]


def _mean(table: Table, arm: str) -> float:
    """Accuracy in per cent, over all faults, tasks and optimizers."""
    return 100 * float(np.mean([table[c].accuracy for c in _cells(table, arm)]))
