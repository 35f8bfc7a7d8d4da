"""Rows and columns of a `History`."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from adaptive_optax import _checks


def is_row(state: Any) -> bool:
    """Whether this is {name: number} already (a `named_chain`'s state is not)."""
    return isinstance(state, Mapping) and all(
        isinstance(x, int | float | np.number | np.ndarray | jax.Array)
        for x in state.values()
    )


def with_events(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row, and the tables of its events if it is a snapshot."""
    return {**row, **getattr(row, "events", {})}


def no_tracers(row: Mapping[str, Any], method: str) -> None:
    """Refuse a row of which nothing is known yet.

    Raises:
      TypeError: If it is one.
    """
    if any(map(_checks.is_traced, row.values())):
        raise TypeError(
            f"History.{method} was called inside jit, scan or vmap; return "
            "snapshot(opt_state) from there and collect it outside."
        )


def plain(x: Any) -> np.ndarray:
    """Numbers of NumPy's own dtypes: CSV and NPZ know no bfloat16."""
    x = np.asarray(x)
    return x if x.dtype.kind in "iuf" else x.astype(np.float32)


def scalar_columns(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each vector spread over columns of its own."""
    flat: dict[str, np.ndarray] = {}
    for key, x in columns.items():
        if x.ndim == 1:
            flat[key] = x
            continue
        rows = x.reshape(len(x), -1)
        flat |= {f"{key}/{i}": rows[:, i] for i in range(rows.shape[1])}
    return flat


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a message, which a table of another origin may have thousands of."""
    known = [name or "''" for name in names]
    more = [f"{len(known) - most} more"] if len(known) > most else []
    return ", ".join([*known[:most], *more]) or "nothing"


def shapes(row: Mapping[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What two rows must have in common to be stacked."""
    return tuple(sorted((key, np.shape(x)) for key, x in row.items()))
