"""A run in a few lines: for a terminal, for `rich`, for a notebook."""

import base64
import html
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_optax.watch.columns import scalar_columns

if TYPE_CHECKING:
    from adaptive_optax.watch.history import History

SHOWN = (
    "loss",
    "validation_loss",
    "reward",
    "learning_rate",
    "momentum",
    "sigma",
    "frozen_fraction",
)
COUNTED = (
    "restores",
    "audit_failures",
    "skipped",
    "nonfinite_values",
    "nonfinite_rewards",
    "nonfinite_gradients",
    "nonfinite_steps",
    "lost_parameters",
    "replica_mismatches",
)
HEAD = ("", "first", "last", "lowest", "highest")


def rows(history: "History") -> list[tuple[str, ...]]:
    """(quantity, first, last, lowest, highest) of what moved, as text."""
    found = []
    columns = scalar_columns(history.as_dict())
    for key, name in _named(columns, SHOWN):
        known = columns[key][np.isfinite(columns[key])]
        moves = len(known) and (name == "loss" or known.min() < known.max())
        if moves or (name == "learning_rate" and len(known)):
            ends = known[0], known[-1], known.min(), known.max()
            found.append((key, *(f"{x:.3g}" for x in ends)))
    return found


def counts(history: "History") -> str:
    """How often something went wrong, in a line; "" if nothing did."""
    columns = history.as_dict()
    found = []
    for key, _ in _named(columns, COUNTED):
        known = np.nan_to_num(columns[key])
        if known.size and known.max() > 0:
            found.append(f"{key.replace('_', ' ')} {int(known.max())}")
    return ", ".join(found)


def _named(columns: Iterable[str], names: Iterable[str]) -> list[tuple[str, str]]:
    """(key, name) of what is there, in the order of the names; a key may have a place.

    "encoder/loss" is the loss of one of several optimizers.
    """
    return [
        (key, name)
        for name in names
        for key in columns
        if key == name or key.endswith(f"/{name}")
    ]


def line(history: "History") -> str:
    """The run in one line, as `repr` shows it."""
    ends = (f"{key} {first} -> {last}" for key, first, last, *_ in rows(history))
    return f"History({', '.join([f'{len(history)} steps', *ends])})"


def rich_table(history: "History") -> Any:
    """What `rich.print(history)` shows."""
    from rich.table import Table

    table = Table(title=f"{len(history)} steps", caption=counts(history) or None)
    for i, name in enumerate(HEAD):
        table.add_column(name, justify="right" if i else "left")
    for row in rows(history):
        table.add_row(*row)
    return table


def page(history: "History") -> str:
    """What a notebook shows: the numbers, and the picture where Matplotlib is there."""
    right = ' style="text-align: right; padding-left: 1em"'
    cells = "".join(
        f'<tr><th scope="row" style="text-align: left">{html.escape(name)}</th>'
        + "".join(f"<td{right}>{html.escape(x)}</td>" for x in numbers)
        + "</tr>"
        for name, *numbers in rows(history)
    )
    head = "<td></td>" + "".join(f'<th scope="col"{right}>{x}</th>' for x in HEAD[1:])
    wrong = html.escape(counts(history))
    return (
        f"<table><caption>{len(history)} steps</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{cells}</tbody></table>{f'<p>{wrong}</p>' if wrong else ''}"
        f"{_picture(history)}"
    )


def _picture(history: "History") -> str:
    from adaptive_optax.watch.plot import plot_history

    file = io.BytesIO()
    try:
        plot_history(history).savefig(file, format="png")
    except (ImportError, ValueError):  # no Matplotlib, or nothing to draw
        return ""
    data = base64.b64encode(file.getvalue()).decode()
    text = html.escape(line(history), quote=True)
    return f'<img src="data:image/png;base64,{data}" alt="{text}">'
