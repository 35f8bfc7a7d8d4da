"""A run as a file: NPZ keeps everything, CSV and JSONL are read by anything.

A row is a step. In CSV and JSONL a vector fills several columns, ``weights/0`` and on,
and is put together again when it is read. NaN is empty in CSV and null in JSONL, which
knows no NaN.
"""

import bisect
import csv
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from adaptive_optax._reasons import EventKind
from adaptive_optax.watch.columns import scalar_columns
from adaptive_optax.watch.event_log import Event, EventLog

FORMATS = (".npz", ".csv", ".jsonl")
EVENTS = "events"
# What reading a file raises that is none of ours, or was damaged.
_DAMAGED = (
    KeyError,
    TypeError,
    ValueError,
    EOFError,
    RecursionError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)


def write(
    columns: Mapping[str, np.ndarray], log: EventLog, path: str | os.PathLike[str]
) -> None:
    """Write a run in the format that the suffix names.

    Args:
      columns: {name: array [steps, ...]}, all equally long.
      log: Its events; in CSV and JSONL an event is in the row of its step.
      path: Ending in one of `FORMATS`.

    Raises:
      ValueError: If it ends in anything else.
    """
    suffix = _suffix(path, "save")
    if suffix == ".npz":
        with open(path, "wb") as file:
            arrays = {**columns, **log.arrays()}
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
        return
    flat: dict[str, Any] = {
        key: [_known(x) for x in column.tolist()]
        for key, column in scalar_columns(dict(columns)).items()
    }
    if log.events:
        flat[EVENTS] = _by_row(log.events, flat)
    with open(path, "w", newline="") as file:
        if suffix == ".csv":
            if log.events:
                flat[EVENTS] = [x and json.dumps(x) for x in flat[EVENTS]]
            writer = csv.writer(file)
            writer.writerow(flat)
            writer.writerows(zip(*flat.values(), strict=True))
        else:
            for row in zip(*flat.values(), strict=True):
                named = dict(zip(flat, row, strict=True))
                file.write(json.dumps(named, allow_nan=False) + "\n")


def read(path: str | os.PathLike[str], log: EventLog) -> dict[str, np.ndarray]:
    """Read what `write` wrote, or any table of numbers with a header.

    Args:
      path: Ending in one of `FORMATS`.
      log: Takes the events.

    Returns:
      {name: array [steps, ...]}; what a row does not have is NaN.

    Raises:
      ValueError: If the suffix is another one, an entry is no number, or the file holds
        something else.
    """
    suffix = _suffix(path, "load")
    try:
        return _read_npz(path, log) if suffix == ".npz" else _read_rows(path, log)
    except _DAMAGED as error:
        raise ValueError(
            f"{os.fspath(path)!r} holds no run that `History.save` wrote: {error}"
        ) from error


def _read_npz(path: str | os.PathLike[str], log: EventLog) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        # NumPy takes anything else for a pickle, and says how to load that unsafely.
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no NPZ archive")
        file.seek(0)
        with np.load(file) as arrays:
            columns = log.restore(dict(arrays))
    for key, column in columns.items():
        if column.dtype.kind in "SUM":
            raise ValueError(f"column {key!r} holds something that is no number")
    lengths = {key: len(x) if x.ndim else None for key, x in columns.items()}
    if len({*lengths.values()}) > 1 or None in lengths.values():
        raise ValueError(f"its columns have lengths {lengths}, and no common one")
    return columns


def _read_rows(path: str | os.PathLike[str], log: EventLog) -> dict[str, np.ndarray]:
    with open(path, newline="") as file:
        rows: list[dict[str, Any]] = (
            list(csv.DictReader(file))
            if _suffix(path, "load") == ".csv"
            else [json.loads(line) for line in file if line.strip()]
        )
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is {row!r}, and no table of names")
        if None in row:
            raise ValueError(f"row {number} has more entries than there are names")
        found = row.pop(EVENTS, None)
        found = json.loads(found) if found and isinstance(found, str) else found
        log.events += [_event(entry) for entry in found or ()]
    keys = dict.fromkeys(key for row in rows for key in row)
    return _vectors({key: _column([row.get(key) for row in rows], key) for key in keys})


def _by_row(events: list[Event], flat: dict[str, Any]) -> list[Any]:
    """The events of each row's step; those between two rows are in the later one."""
    length = len(next(iter(flat.values())))
    steps = [x or 0 for x in flat.get("steps", range(1, length + 1))]
    rows: list[Any] = [None] * length
    for event in events:
        at = min(bisect.bisect_left(steps, event.step), length - 1)
        entry = {k: _known(x) for k, x in event._asdict().items()}
        rows[at] = [*(rows[at] or ()), {**entry, "kind": event.kind.name}]
    return rows


def _event(entry: dict[str, Any]) -> Event:
    try:
        figures = {k: _number(entry[k]) for k in ("figure", "bound", "before", "after")}
        return Event(**{**entry, **figures, "kind": EventKind[entry["kind"]]})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{entry!r} is no event that is known") from error


def _known(entry: Any) -> Any:
    """Nothing in place of NaN; infinity as text. JSON has neither of them."""
    if not isinstance(entry, float) or math.isfinite(entry):
        return entry
    return None if math.isnan(entry) else str(entry)


def _suffix(path: str | os.PathLike[str], method: str) -> str:
    suffix = os.path.splitext(path)[1]
    if suffix not in FORMATS:
        raise ValueError(
            f"`path` must end in .npz, .csv or .jsonl, got {os.fspath(path)!r}; try "
            f'history.{method}("run.npz").'
        )
    return suffix


def _column(entries: list[Any], key: str) -> np.ndarray:
    """Integers where all are, else floats."""
    try:
        if entries and all(_whole(x) for x in entries):
            return np.array([int(x) for x in entries])
        return np.array([_number(x) for x in entries], np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {key!r} holds something that is no number") from error


def _whole(entry: Any) -> bool:
    if isinstance(entry, str):
        return entry.lstrip("-").isdecimal()
    return isinstance(entry, int) and not isinstance(entry, bool)


def _number(entry: Any) -> float:
    return math.nan if entry is None or entry == "" else float(entry)


def _vectors(flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns ``weights/0``, ``weights/1`` as one again."""
    parts: dict[str, dict[int, np.ndarray]] = {}
    columns: dict[str, np.ndarray] = {}
    for key, column in flat.items():
        name, _, index = key.rpartition("/")
        if name and index.isdecimal():
            parts.setdefault(name, {})[int(index)] = column
            columns[name] = column  # keeps the place
        else:
            columns[key] = column
    for name, found in parts.items():
        columns[name] = np.stack([found[i] for i in sorted(found)], axis=1)
    return columns
