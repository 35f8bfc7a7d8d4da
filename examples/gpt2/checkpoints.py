"""Everything a run needs to go on as if nothing had happened, through Orbax.

A checkpoint holds the train state (parameters, optimizer, controller, dropout key), the
position in the data, and the log. Orbax writes it under another name and renames it
when it is whole, so a run that is killed at any time has its last whole one.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp

from adaptive_optax import History
from examples.gpt2.training import TrainState

RECORD = "config.json"


class Progress(NamedTuple):
    """Where a run stands."""

    step: int
    state: TrainState
    history: History


def new_folder(runs: Path) -> Path:
    """The next numbered folder."""
    return runs / f"gpt2-{1 + max(_numbers(runs), default=0):03d}"


def newest_folder(runs: Path) -> Path:
    """The last numbered folder.

    Raises:
      FileNotFoundError: If there is none.
    """
    if not (numbers := _numbers(runs)):
        raise FileNotFoundError(f"--resume: there is no run in {runs}/")
    return runs / f"gpt2-{max(numbers):03d}"


def _numbers(runs: Path) -> list[int]:
    names = [path.name.removeprefix("gpt2-") for path in runs.glob("gpt2-*")]
    return [int(name) for name in names if name.isdecimal()]


def read_record(folder: Path) -> dict[str, Any]:
    """What a run was begun with.

    Raises:
      FileNotFoundError: If the folder holds no run.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"--resume: {folder} holds no run")
    return json.loads(path.read_text("utf-8"))


def open_run(folder: Path, record: dict[str, Any], *, resume: bool) -> None:
    """Begin a run in a folder, or see that it may be resumed there.

    Raises:
      FileExistsError: If it holds anything and is not to be resumed.
      FileNotFoundError: If it is to be resumed and holds no run.
      ValueError: If its run has another configuration or other data.
    """
    path = folder / RECORD
    if not resume:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(
                f"{folder} is not empty; --resume continues its run, another --output "
                "starts a new one"
            )
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        partial.rename(path)
        return
    old = read_record(folder)
    changed = [
        f"{name} was {old.get(name)!r}, now {record.get(name)!r}"
        for name in {**old, **record}
        if old.get(name) != record.get(name)
    ]
    if changed:
        raise ValueError(f"--resume: {folder} is another run: {'; '.join(changed)}")


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int = 2):
        """Open or create them."""
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        path = (folder / "checkpoints").absolute()
        self.manager = ocp.CheckpointManager(path, options=options)

    def save(self, progress: Progress, data: grain.DatasetIterator) -> None:
        """Write one, in the background; what is passed may be donated at once."""
        if progress.step == self.manager.latest_step():
            return
        items = {
            "state": ocp.args.StandardSave(progress.state),
            "data": grain.checkpoint.CheckpointSave(data),
            "history": ocp.args.StandardSave(progress.history.as_dict()),
        }
        self.manager.save(progress.step, args=ocp.args.Composite(**items))

    def restore(self, like: TrainState, data: grain.DatasetIterator) -> Progress | None:
        """The last one; moves ``data`` to where it was. None if there is none yet."""
        step = self.manager.latest_step()
        if step is None:
            return None

        def abstract(x: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

        items = {
            "state": ocp.args.StandardRestore(jax.tree.map(abstract, like)),
            "data": grain.checkpoint.CheckpointRestore(data),
            "history": ocp.args.StandardRestore(),
        }
        found = self.manager.restore(step, args=ocp.args.Composite(**items))
        told = {key: np.asarray(x) for key, x in found["history"].items()}
        return Progress(step, found["state"], History.from_stacked(told))

    def close(self) -> None:
        """Wait until what was saved is on the disk."""
        self.manager.wait_until_finished()
        self.manager.close()
