"""A run as a file: NPZ keeps everything, CSV and JSONL are read by anything.

A row is a step. In CSV and JSONL a vector fills several columns, ``weights/0`` and on,
and is put together again when it is read. NaN is empty in CSV and null in JSONL, which
knows no NaN.
"""

import csv
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

FORMATS = (".npz", ".csv", ".jsonl")


def write(columns: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> None:
    """Write {name: array [steps, ...]} in the format that the suffix names.

    Args:
      columns: All equally long.
      path: Ending in one of `FORMATS`.

    Raises:
      ValueError: If it ends in anything else.
    """
    suffix = _suffix(path, "save")
    if suffix == ".npz":
        with open(path, "wb") as file:
            np.savez_compressed(file, **columns)  # pyright: ignore[reportArgumentType]
        return
    flat = scalar_columns(columns)
    rows = zip(*(x.tolist() for x in flat.values()), strict=True)
    with open(path, "w", newline="") as file:
        if suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(flat)
            writer.writerows(map(_csv, rows))
        else:
            for row in rows:
                named = dict(zip(flat, map(_json, row), strict=True))
                file.write(json.dumps(named, allow_nan=False) + "\n")


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read what `write` wrote, or any table of numbers with a header.

    Args:
      path: Ending in one of `FORMATS`.

    Returns:
      {name: array [steps, ...]}; what a row does not have is NaN.

    Raises:
      ValueError: If the suffix is another one, or an entry is no number.
    """
    suffix = _suffix(path, "load")
    if suffix == ".npz":
        with np.load(path) as columns:
            return dict(columns)
    with open(path, newline="") as file:
        rows: list[dict[str, Any]] = (
            list(csv.DictReader(file))
            if suffix == ".csv"
            else [json.loads(line) for line in file if line.strip()]
        )
    keys = dict.fromkeys(key for row in rows for key in row)
    return _vectors({key: _column([row.get(key) for row in rows], key) for key in keys})


def scalar_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each vector spread over columns of its own."""
    flat: dict[str, np.ndarray] = {}
    for key, x in columns.items():
        if x.ndim == 1:
            flat[key] = x
            continue
        rows = x.reshape(len(x), -1)
        flat |= {f"{key}/{i}": rows[:, i] for i in range(rows.shape[1])}
    return flat


def _suffix(path: str | os.PathLike[str], method: str) -> str:
    suffix = os.path.splitext(path)[1]
    if suffix not in FORMATS:
        raise ValueError(
            f"`path` must end in .npz, .csv or .jsonl, got {os.fspath(path)!r}; try "
            f'history.{method}("run.npz").'
        )
    return suffix


def _csv(row: tuple[Any, ...]) -> list[Any]:
    """Nothing in place of NaN, which stands for what a step did not have."""
    return ["" if x != x else x for x in row]


def _json(number: Any) -> Any:
    """The standard has neither NaN nor infinity."""
    if math.isfinite(number):
        return number
    return None if math.isnan(number) else str(number)


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
