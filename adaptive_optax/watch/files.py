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
import reprlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from adaptive_optax._reasons import EventKind
from adaptive_optax.watch.columns import scalar_columns
from adaptive_optax.watch.event_log import Event, EventLog

FORMATS = (".npz", ".csv", ".jsonl")
EVENTS = "events"


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
    with open(path, "w", newline="", encoding="utf-8") as file:
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
      OSError: If the file cannot be opened.
      ValueError: If the suffix is another one, an entry is no number, or the file holds
        something else.
    """
    suffix = _suffix(path, "load")
    try:
        return _read_npz(path, log) if suffix == ".npz" else _read_rows(path, log)
    except OSError:
        raise
    # A file of another origin makes NumPy, zipfile and zlib raise a dozen types, and
    # their documentation does not name all.
    except Exception as error:
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
            entries = dict(arrays)
    for key, entry in entries.items():
        if not isinstance(entry, np.ndarray):
            raise ValueError(f"its entry {key!r} is no array")
    columns = log.restore(entries)
    for key, column in columns.items():
        if column.dtype.kind not in "biuf":
            raise ValueError(f"column {key!r} holds something that is no number")
    lengths = {key: len(x) if x.ndim else None for key, x in columns.items()}
    if len({*lengths.values()}) > 1 or None in lengths.values():
        raise ValueError(f"its columns have lengths {lengths}, and no common one")
    return columns


def _read_rows(path: str | os.PathLike[str], log: EventLog) -> dict[str, np.ndarray]:
    # A spreadsheet writes a mark in front of the first name, which "sig" takes off.
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows: list[dict[str, Any]] = list(
            csv.DictReader(file) if _suffix(path, "load") == ".csv" else _objects(file)
        )
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(
                f"row {number} is {reprlib.repr(row)}, and no table of names"
            )
        if None in row:
            raise ValueError(f"row {number} has more entries than there are names")
        log.events += map(_event, _list_of_events(row.pop(EVENTS, None)))
    keys = dict.fromkeys(key for row in rows for key in row)
    return _vectors({key: _column([row.get(key) for row in rows], key) for key in keys})


def _objects(lines: Iterable[str]) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"line {number} is cut off or no JSON ({error.msg}, column "
                    f"{error.colno})"
                ) from error


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


def _list_of_events(cell: Any) -> list[Any]:
    """The events of a row, which are written as JSON in a CSV."""
    if not cell:
        return []
    try:
        found = json.loads(cell) if isinstance(cell, str) else cell
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, list):
        raise ValueError(f"{reprlib.repr(cell)} in column 'events' is no list of them")
    return found


def _event(entry: dict[str, Any]) -> Event:
    try:
        figures = {k: _number(entry[k]) for k in ("figure", "bound", "before", "after")}
        steps = {k: int(entry[k]) for k in ("step", "last", "times")}
        kind = EventKind[entry["kind"]]
        return Event(**{**entry, **figures, **steps, "kind": kind})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{reprlib.repr(entry)} is no event that is known") from error


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
            whole = np.array([int(x) for x in entries])
            if whole.dtype.kind in "iu":  # and not beyond 64 bits
                return whole
        return np.array([_number(x) for x in entries], np.float64)
    except (TypeError, ValueError, OverflowError) as error:
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
