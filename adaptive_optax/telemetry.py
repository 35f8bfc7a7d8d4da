"""Looking at a run: what the loop holds now, and what it held at every step.

`snapshot` reads an optimizer state and never waits for the device, so it may stand in
the jitted step. `History` keeps snapshots on the device and fetches them when somebody
looks; every 1,024th `History.append` fetches those before it, so that a long run does
not fill the device with scalars.
"""

import csv
import functools
import itertools
import os
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax import _checks, _trees
from adaptive_optax._freeze_law import FreezeState
from adaptive_optax.averaging import AverageState
from adaptive_optax.blending import BlendState
from adaptive_optax.dither import DitherState
from adaptive_optax.recovery import RecoveryState
from adaptive_optax.scaling import ScaleByRuleState
from adaptive_optax.scheduler import READINGS, AdaptiveSchedulerState

_PIECES = (
    AdaptiveSchedulerState,
    ScaleByRuleState,
    FreezeState,
    AverageState,
    RecoveryState,
    DitherState,
)
_PENDING = 1024  # appended steps that wait on the device


def snapshot(state: Any) -> dict[str, jax.Array]:
    """Read what the loop holds, from anywhere in an optimizer state.

    Keys, as far as the state holds them; the loss, the reward and what is derived from
    them are 0 before the first:

    - ``learning_rate``, ``momentum``, ``sigma``: the gains of the last update, and
      ``lr_scale``, what the controller multiplies the base rate with;
    - ``loss``, ``loss_fast``, ``loss_trend``, ``loss_variance``, ``success``,
      ``reward``, ``reward_trend``, ``grad_norm``, ``grad_norm_z``, ``alignment``,
      ``alignment_mean``, ``alignment_sem``, ``travel``: the signals, see `Signals`;
    - ``frozen_fraction``: share of the parameters that are frozen
      (``frozen_leaves``, share of the leaves, for `freeze_by_grad_norm` by itself);
    - ``weights``, ``momentum_weights``, ``sigma_weights``: f32[n], of a blend;
    - ``steps``, and of these ``nonfinite_values``, ``nonfinite_rewards``,
      ``nonfinite_gradients``, and ``nonfinite_steps``, in which the inner optimizer
      made something that is not finite of a finite gradient (as the sketch shows it);
    - ``restores``, ``strikes``, ``audit_left``, ``audit_failures``, ``retrying``: see
      `recovery`;
    - ``average_count``: parameters that the evaluation average reaches back to;
    - ``dither_count``: steps of `add_dither` by itself.

    Args:
      state: Of `adaptive_scheduler` or any of its parts, in whatever holds it: a chain,
        a mask, a partition, `optax.MultiSteps`, a train state, a Flax nnx optimizer.
        Where several pieces have a key in common (two schedulers in a partition), the
        keys of each are prefixed with its label or place: ``"encoder/learning_rate"``.

    Returns:
      New arrays, so the state may be donated to the next step. Nothing waits for the
      device; call it inside or outside of `jax.jit`, `jax.lax.scan` and `jax.vmap`.

    Raises:
      ValueError: If there is no state of this package in ``state``.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import adaptive_optax as ao
      >>> tx = optax.chain(optax.clip(1.0), ao.adaptive_adam(1e-3))
      >>> state = tx.init(jnp.ones(3))
      >>> print(f"{ao.snapshot(state)['learning_rate']:.4f}")
      0.0010
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(
        state, is_leaf=lambda node: isinstance(node, _PIECES)
    )
    found = [(path, node) for path, node in paths if isinstance(node, _PIECES)]
    if not found:
        raise ValueError(
            f"`state` holds nothing of adaptive_optax, got {type(state).__name__}; "
            "try snapshot(opt_state) with the state that tx.update returned, "
            "tx = adaptive_scheduler(optax.adamw, learning_rate=3e-4)."
        )
    pieces = [_fields(node) for _, node in found]
    keys = [key for piece in pieces for key in piece]
    if len(set(keys)) < len(keys):
        pieces = [
            {f"{_place(path)}{key}": x for key, x in piece.items()}
            for (path, _), piece in zip(found, pieces, strict=True)
        ]
    merged = {key: x for piece in pieces for key, x in piece.items()}
    return _read({key: _trees.scalar_of(x) for key, x in merged.items()})


class ScalarWriter(Protocol):
    """What `History.write_to` needs of a writer: TensorBoard's method."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any:
        """Write one number."""
        ...


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
        """Write all steps to a file.

        Args:
          path: Ending in ``.npz`` (`load` reads it back) or ``.csv`` (one row a step;
            a vector fills several columns, ``weights/0`` and on).

        Raises:
          ValueError: If it ends in anything else.
        """
        suffix = os.path.splitext(path)[1]
        if suffix not in (".npz", ".csv"):
            raise ValueError(
                f"`path` must end in .npz or .csv, got {os.fspath(path)!r}; try "
                'history.save("run.npz").'
            )
        columns = self.as_dict()
        if suffix == ".npz":
            with open(path, "wb") as file:
                np.savez_compressed(file, **columns)  # pyright: ignore[reportArgumentType]
            return
        flat = _scalar_columns(columns)
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(flat)
            writer.writerows(zip(*(x.tolist() for x in flat.values()), strict=True))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "History":
        """Read what `save` wrote as ``.npz``."""
        with np.load(path) as columns:
            return cls.from_stacked(dict(columns))

    def write_to(
        self, writer: ScalarWriter, *, prefix: str = "", since: int = 0
    ) -> None:
        """Write every number to TensorBoard, or to anything with its ``add_scalar``.

        Args:
          writer: Its ``add_scalar(tag, number, step)`` is called. The step is the
            optimizer's own count where that was collected.
          prefix: In front of every tag.
          since: Leave out that many first steps, those written before.
        """
        flat = _scalar_columns(self.as_dict())
        steps = flat.pop("steps", 1 + np.arange(self._length))
        for tag, column in flat.items():
            for step, number in zip(steps[since:], column[since:], strict=True):
                if np.isfinite(number):
                    writer.add_scalar(f"{prefix}{tag}", float(number), int(step))

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


def _fields(node: Any) -> dict[str, Any]:
    """The readings of one piece, under the names that users see."""
    if isinstance(node, AdaptiveSchedulerState):
        fields: dict[str, Any] = {
            "learning_rate": node.learning_rate,
            "momentum": node.momentum,
            "sigma": node.sigma,
            "frozen_fraction": node.frozen_fraction,
            "lr_scale": node.lr_scale,
            "nonfinite_steps": node.nonfinite_steps,
            "readings": node.readings,
            **_sensor(node.sensor),
        }
        for prefix, rule in (
            ("", node.lr_rule),
            ("momentum_", node.momentum_rule),
            ("sigma_", node.sigma_rule),
        ):
            fields |= _weights(rule, prefix)
        for part in (node.recovery, node.averaging):
            fields |= _fields(part)
        return fields
    if isinstance(node, ScaleByRuleState):
        return {
            "lr_scale": node.rule_scale,
            **_sensor(node.rule_sensor),
            **_weights(node.rule_state, ""),
        }
    if isinstance(node, FreezeState):
        return {"frozen_leaves": node.freeze_mask}
    if isinstance(node, AverageState):
        return {"average_count": node.average_count}
    if isinstance(node, RecoveryState):
        names = ("restores", "strikes", "audit_left", "audit_failures", "retrying")
        return {name: getattr(node, name) for name in names}
    if isinstance(node, DitherState):
        return {"dither_count": node.dither_count}
    return {}


@functools.partial(jax.jit, inline=True)
def _read(fields: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Unpack and copy, in one dispatch: what is returned shares no buffer."""
    result = {}
    for key, x in fields.items():
        prefix, name = key[: key.rfind("/") + 1], key[key.rfind("/") + 1 :]
        if name == "readings":
            for i, reading in enumerate(READINGS):
                reading = "loss" if reading == "value" else reading
                result[prefix + reading] = x[..., i]
        elif name == "frozen_leaves":
            result[key] = jnp.mean(x.astype(jnp.float32), axis=-1)
        else:
            result[key] = jnp.copy(x)
    return result


def _sensor(sensor: Any) -> dict[str, Any]:
    return {
        "steps": sensor.signal_count,
        "nonfinite_values": sensor.nonfinite_values,
        "nonfinite_rewards": sensor.nonfinite_rewards,
        "nonfinite_gradients": sensor.nonfinite_gradients,
    }


def _weights(rule: Any, prefix: str) -> dict[str, Any]:
    blends = _trees.find_states(rule, BlendState)
    return {f"{prefix}weights": blends[0].weights} if blends else {}


def _place(path: Any) -> str:
    """A partition's label or a chain's index, as far as the path has any."""
    names = (getattr(key, "key", getattr(key, "idx", None)) for key in path)
    return "".join(f"{name}/" for name in names if name is not None)


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


def _scalar_columns(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each vector spread over columns of its own."""
    flat: dict[str, np.ndarray] = {}
    for key, x in columns.items():
        if x.ndim == 1:
            flat[key] = x
            continue
        rows = x.reshape(len(x), -1)
        flat |= {f"{key}/{i}": rows[:, i] for i in range(rows.shape[1])}
    return flat
