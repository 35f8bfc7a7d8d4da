"""Log a run while it goes on, and wait for the device only now and then."""

from typing import Any

from adaptive_optax import _checks
from adaptive_optax.watch import writers
from adaptive_optax.watch.history import History


class LogEvery:
    """What `log_every` returns: call it after each step, and `flush` it at the end."""

    history: History
    """All steps that were written."""

    def __init__(self, writer: writers.Writer, every: int, prefix: str) -> None:
        """Start empty."""
        self.history = History()
        self._writer, self._every, self._prefix = writer, every, prefix
        self._window = self._next()

    def __call__(self, state: Any = None, /, **extra: Any) -> None:
        """Collect a step, as `History.append` does; fetch and write each so many."""
        self._window.append(state, **extra)
        if len(self._window) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Fetch and write what is not written yet."""
        window, self._window = self._window, self._next()
        if not len(window):
            return
        columns, before = window.as_dict(), len(self.history)
        self.history.extend(columns)
        writers.write(self._writer, columns, prefix=self._prefix, before=before)

    def _next(self) -> History:
        """An empty window, which goes on with the events of the one before."""
        window = History()
        window._log = self.history._log
        return window

    def __enter__(self) -> "LogEvery":
        """Return itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Flush, also when the run has failed: its last steps say why."""
        self.flush()


def log_every(
    writer: writers.Writer,
    every: int = 100,
    *,
    prefix: str = writers.PREFIX,
) -> LogEvery:
    """Write a run to a logger while it goes on.

    Numbers stay on the device for ``every`` steps. Then all of them are fetched at
    once, which waits for the last step, and written; no step is left out. Between two
    fetches nothing waits.

    Args:
      writer: As for `History.write_to`.
      every: Steps between two fetches, >= 1.
      prefix: In front of every name.

    Returns:
      A callback, ``log(state, **extra)``, with ``flush()`` and ``history``, all steps
      that were written. As a context manager it flushes at its end, errors included.

    Raises:
      TypeError: If ``every`` is no whole number, the prefix is no text, or the writer
        has no method that is known.
      ValueError: If ``every`` is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> import adaptive_optax as ao
      >>> class Writer:
      ...     def log(self, numbers, step):
      ...         print(step, sorted(numbers))
      >>> with ao.log_every(Writer(), every=2) as log:
      ...     for loss in (3.0, 2.0, 1.0):
      ...         log({"loss": jnp.float32(loss)})
      1 ['adaptive/loss']
      2 ['adaptive/loss']
      3 ['adaptive/loss']

    References:
      `History`, which holds the numbers.
    """
    writers.method_of(writer)
    writers.check_prefix(prefix)
    _checks.whole("every", every, 1, example="every=100")
    return LogEvery(writer, every, prefix)
