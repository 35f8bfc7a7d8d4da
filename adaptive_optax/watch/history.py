"""What the loop held at every step.

`History` keeps snapshots on the device and fetches them when they are read. Every
1,024th `History.append` fetches those before it, so that a long run does not fill the
device with scalars.
"""

import itertools
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from adaptive_optax import _checks
from adaptive_optax.watch import files, summary, writers
from adaptive_optax.watch.snapshot import snapshot

_PENDING = 1024  # appended steps that wait on the device


class History:
    """Snapshots of a run, step by step.

    In a Python loop, `append` one at a time; out of `jax.lax.scan`, `extend` by the
    stacked outputs. Reading (`as_dict`, ``history["loss"]``, `save`, `write_to`) waits
    for the device, collecting does not. A key need not be there at every step: where
    it is missing, it reads NaN.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import adaptive_optax as ao
      >>> tx = ao.adaptive_sgd(0.1)
      >>> def step(carry, _):
      ...     params, state = carry
      ...     loss, grads = jax.value_and_grad(lambda x: jnp.sum(x**2))(params)
      ...     updates, state = tx.update(grads, state, params, value=loss)
      ...     return (optax.apply_updates(params, updates), state), ao.snapshot(state)
      >>> params = jnp.ones(3)
      >>> _, stacked = jax.lax.scan(step, (params, tx.init(params)), length=30)
      >>> history = History.from_stacked(stacked)
      >>> len(history), history["loss"][0].item()
      (30, 3.0)
    """

    def __init__(self) -> None:
        """Start empty."""
        self._chunks: list[dict[str, Any]] = []  # {key: [n, ...]}, on either side
        self._pending: list[dict[str, Any]] = []  # {key: [...]}, on the device
        self._length = 0

    @classmethod
    def from_stacked(cls, stacked: Mapping[str, Any]) -> "History":
        """A history of one `extend`; see there."""
        history = cls()
        history.extend(stacked)
        return history

    def append(self, state: Any = None, /, **extra: Any) -> None:
        """Add one step.

        Args:
          state: An optimizer state, of which the `snapshot` is taken, or a snapshot, or
            any mapping from names to numbers; None for the extras alone.
          **extra: More scalars of this step; they win over the snapshot's.

        Raises:
          TypeError: If it is called while tracing, where nothing is known yet.
          ValueError: If there is nothing of this package in ``state``, or nothing at
            all.
        """
        row = {} if state is None else state if _is_row(state) else snapshot(state)
        row = {**row, **extra}
        if not row:
            raise ValueError("nothing to add; try history.append(opt_state).")
        _no_tracers(row, "append")
        self._pending.append(row)
        self._length += 1
        if len(self._pending) >= _PENDING:
            self._settle()

    def extend(self, stacked: Mapping[str, Any]) -> None:
        """Add many steps at once.

        Args:
          stacked: {name: array [steps, ...]}, as `jax.lax.scan` stacks snapshots.

        Raises:
          TypeError: If it is called while tracing.
          ValueError: If the arrays are not equally long.
        """
        _no_tracers(stacked, "extend")
        lengths = {key: len(x) if np.ndim(x) else None for key, x in stacked.items()}
        if len(set(lengths.values())) != 1 or None in lengths.values():
            raise ValueError(
                f"every array must have the same number of steps, got {lengths}; try "
                "history.extend(jax.lax.scan(step, carry, batches)[1])."
            )
        self._settle()
        self._chunks.append(dict(stacked))
        self._length += next(iter(lengths.values())) or 0

    def __len__(self) -> int:
        """Steps collected."""
        return self._length

    def __repr__(self) -> str:
        """The run in one line; this waits for the device."""
        return summary.line(self)

    def __rich__(self) -> Any:
        """The run as a table, for `rich.print`."""
        return summary.rich_table(self)

    def _repr_html_(self) -> str:
        """The run as a notebook shows it."""
        return summary.page(self)

    def __getitem__(self, key: str) -> np.ndarray:
        """One quantity over all steps.

        Raises:
          KeyError: If it is at no step; the message lists what is.
        """
        columns = self.as_dict()
        if key not in columns:
            raise KeyError(f"{key!r}; there are {', '.join(columns) or 'none'}")
        return columns[key]

    def as_dict(self) -> dict[str, np.ndarray]:
        """Everything, as NumPy arrays with the steps in front."""
        self._settle()
        self._chunks = [
            {key: _plain(x) for key, x in chunk.items()}
            for chunk in jax.device_get(self._chunks)
        ]
        keys = dict.fromkeys(key for chunk in self._chunks for key in chunk)
        columns = {key: self._column(key) for key in keys}
        self._chunks = [dict(columns)] if columns else []
        return columns

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all steps to a file, which `load` reads back.

        Args:
          path: Ending in ``.npz``, or in ``.csv`` or ``.jsonl``: one row a step there,
            and a vector fills several columns, ``weights/0`` and on.

        Raises:
          ValueError: If it ends in anything else.
        """
        files.write(self.as_dict(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "History":
        """Read what `save` wrote, or a table of any other origin.

        Args:
          path: Ending in ``.npz``, ``.csv`` or ``.jsonl``.

        Raises:
          ValueError: If it ends in anything else, or holds what is no number.
        """
        columns = files.read(path)
        return cls.from_stacked(columns) if columns else cls()

    def write_to(
        self, writer: writers.Writer, *, prefix: str = writers.PREFIX, since: int = 0
    ) -> None:
        """Write every number to a logger; `log_every` does so while a run goes on.

        Args:
          writer: TensorBoard's (anything with ``add_scalar(tag, number, step)``), the
            module `mlflow` (``log_metrics(numbers, step=)``), a W&B run or the modules
            `wandb` and `trackio` (``log(numbers, step=)``). The step is the optimizer's
            own count where that was collected.
          prefix: In front of every name.
          since: Leave out that many first steps, those written before.

        Raises:
          TypeError: If the writer has none of these methods.
        """
        writers.write(writer, self.as_dict(), prefix=prefix, since=since)

    def _settle(self) -> None:
        """Fetch what was appended and stack it: one chunk a run of equal keys."""
        rows, self._pending = jax.device_get(self._pending), []
        for keys, group in itertools.groupby(rows, key=lambda row: tuple(sorted(row))):
            run = list(group)
            self._chunks.append(
                {key: np.stack([_plain(row[key]) for row in run]) for key in keys}
            )

    def _column(self, key: str) -> np.ndarray:
        """One key of all chunks, NaN where it is missing."""
        shape = next(c[key].shape[1:] for c in self._chunks if key in c)
        parts = [
            chunk[key]
            if key in chunk
            else np.full((len(next(iter(chunk.values()))), *shape), np.nan, np.float32)
            for chunk in self._chunks
        ]
        return np.concatenate(parts)


def _is_row(state: Any) -> bool:
    """Whether this is {name: number} already (a `named_chain`'s state is not)."""
    return isinstance(state, Mapping) and all(
        isinstance(x, int | float | np.number | np.ndarray | jax.Array)
        for x in state.values()
    )


def _no_tracers(row: Mapping[str, Any], method: str) -> None:
    if any(map(_checks.is_traced, row.values())):
        raise TypeError(
            f"History.{method} was called inside jit, scan or vmap; return "
            "snapshot(opt_state) from there and collect it outside."
        )


def _plain(x: Any) -> np.ndarray:
    """Numbers of NumPy's own dtypes: CSV and NPZ know no bfloat16."""
    x = np.asarray(x)
    return x if x.dtype.kind in "iuf" else x.astype(np.float32)
