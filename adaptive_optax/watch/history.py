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

from adaptive_optax.events import SIZE
from adaptive_optax.watch import files, summary, writers
from adaptive_optax.watch.columns import is_row, no_tracers, plain, shapes, with_events
from adaptive_optax.watch.event_log import Event, EventLog
from adaptive_optax.watch.snapshot import read

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
        self._log = EventLog()

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
        state = {} if state is None else state
        row = with_events(state) if is_row(state) else read(state, SIZE)
        row |= extra
        if not row:
            raise ValueError("nothing to add; try history.append(opt_state).")
        no_tracers(row, "append")
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
        stacked = with_events(stacked)
        no_tracers(stacked, "extend")
        lengths = {key: len(x) if np.ndim(x) else None for key, x in stacked.items()}
        if len(set(lengths.values())) != 1 or None in lengths.values():
            raise ValueError(
                f"every array must have the same number of steps, got {lengths}; try "
                "history.extend(jax.lax.scan(step, carry, batches)[1])."
            )
        self._settle()
        self._chunks.append(stacked)
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
        self._fetch()
        keys = dict.fromkeys(key for chunk in self._chunks for key in chunk)
        columns = {key: self._column(key) for key in keys}
        self._chunks = [dict(columns)] if columns else []
        return columns

    @property
    def events(self) -> list[Event]:
        """What happened, from the first step on.

        Nothing is lost if snapshots were taken often enough: of every step, or of
        states (`append`) between which there were at most 32 events, or of snapshots
        with at most 8. Each skipped batch and each gradient that was not finite is an
        event of its own where snapshots were taken at every step.

        Raises:
          ValueError: If the snapshots are of a population.
        """
        columns = self.as_dict()
        counts = [x for key, x in columns.items() if key.endswith("event_count")]
        # A file has lost the tables that would say so.
        if self._log.many or any(x.ndim > 1 for x in counts):
            raise ValueError(
                "these are the snapshots of a population; take one member's: "
                "History.from_stacked(jax.tree.map(lambda x: x[:, 0], stacked))."
            )
        return list(self._log.events)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all steps and events to a file, which `load` reads back.

        Args:
          path: Ending in ``.npz``, or in ``.csv`` or ``.jsonl``: one row a step there,
            and a vector fills several columns, ``weights/0`` and on.

        Raises:
          ValueError: If it ends in anything else.
        """
        files.write(self.as_dict(), self._log, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "History":
        """Read what `save` wrote, or a table of any other origin.

        Args:
          path: Ending in ``.npz``, ``.csv`` or ``.jsonl``.

        Raises:
          ValueError: If it ends in anything else, or holds what is no number.
        """
        history = cls()
        columns = files.read(path, history._log)
        if columns:
            history.extend(columns)
        return history

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
          TypeError: If the writer has none of these methods, or the prefix is no text.
          ValueError: If ``since`` is below 0.
        """
        writers.write(writer, self.as_dict(), prefix=prefix, since=since)

    def _settle(self) -> None:
        """Fetch what was appended and stack it: one chunk a run of equal keys."""
        if not self._pending:
            return
        rows, self._pending = jax.device_get(self._pending), []
        for keys, group in itertools.groupby(rows, key=shapes):
            run = list(group)
            self._chunks.append(
                {key: np.stack([plain(row[key]) for row in run]) for key, _ in keys}
            )

        self._fetch()

    def _fetch(self) -> None:
        """Fetch all chunks, and put their events into the log."""
        self._chunks = [
            {key: plain(x) for key, x in self._log.take(chunk).items()}
            for chunk in jax.device_get(self._chunks)
        ]

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
