"""Where the numbers of a run go: TensorBoard, W&B, trackio, MLflow, files.

A writer is known by its method, so no logging library is imported here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from adaptive_optax import _checks
from adaptive_optax.watch.columns import scalar_columns

PREFIX = "adaptive/"
METHODS = ("add_scalar", "log_metrics", "log")


class ScalarWriter(Protocol):
    """TensorBoard's writer, of tensorboardX, PyTorch and others."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any:
        """Write one number."""
        ...


class LogWriter(Protocol):
    """A W&B run, or the modules `wandb` and `trackio`."""

    def log(self, data: dict[str, float], *, step: int) -> Any:
        """Write a step's numbers."""
        ...


class MetricsWriter(Protocol):
    """The module `mlflow`, and Lightning's loggers."""

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> Any:
        """Write a step's numbers."""
        ...


Writer = ScalarWriter | LogWriter | MetricsWriter


def write(
    writer: Any,
    columns: Mapping[str, np.ndarray],
    *,
    prefix: str,
    since: int = 0,
    before: int = 0,
) -> None:
    """Write every finite number of some steps.

    Args:
      writer: A `Writer`.
      columns: {name: array [steps, ...]}; ``steps``, if it is there, counts them.
      prefix: In front of every name.
      since: Leave out that many first steps.
      before: Steps before the first of these, where no ``steps`` counts them.

    Raises:
      TypeError: If the writer has none of the methods, or the prefix is no text.
      ValueError: If ``since`` is below 0.
    """
    log = method_of(writer)
    check_prefix(prefix)
    _checks.whole("since", since, example="since=len(history) - 100")
    flat = scalar_columns(dict(columns))
    length = len(next(iter(flat.values()), ()))
    counts = flat.pop("steps", 1 + before + np.arange(length))
    named = {prefix + key: column for key, column in flat.items()}
    if hasattr(writer, "add_scalar"):
        for name, column in named.items():
            for step, number in zip(counts[since:], column[since:], strict=True):
                if np.isfinite(number):
                    log(name, float(number), int(step))
        return
    for i in range(since, length):
        row = {name: float(x[i]) for name, x in named.items() if np.isfinite(x[i])}
        if row:
            log(row, step=int(counts[i]))


def check_prefix(prefix: Any) -> None:
    """Require text.

    Raises:
      TypeError: If it is something else.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"`prefix` must be text, got {prefix!r}; try prefix='run/'.")


def method_of(writer: Any) -> Callable[..., Any]:
    """The method that takes the numbers.

    Raises:
      TypeError: If there is none.
    """
    for name in METHODS:
        method = getattr(writer, name, None)
        if callable(method):
            return method
    raise TypeError(
        "`writer` must have add_scalar (TensorBoard), log_metrics (MLflow) or log "
        f"(W&B, trackio), got {type(writer).__name__}; try "
        "history.write_to(tensorboardX.SummaryWriter()) or history.write_to(wandb)."
    )
