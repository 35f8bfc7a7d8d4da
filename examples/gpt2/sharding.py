"""``--mesh data,model``: where parameters, optimizer state and batches lie.

The batch is split over the data axis, every matrix over the model axis, in the pattern
of Megatron: columns of what goes into a block, rows of what comes out, so that a block
needs one sum over devices for its attention and one for its MLP. XLA inserts the
communication; the loss and the controller's decisions are the same on all devices.

Reference: Shoeybi et al., Megatron-LM, 2019, section 3.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

COLUMNS, ROWS = ("c_attn", "c_fc"), ("c_proj",)


def make_mesh(shape: str) -> Mesh:
    """The mesh of ``"DATA,MODEL"``.

    Raises:
      ValueError: If it is not two positive numbers, or there are fewer devices.
    """
    parts = shape.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"--mesh must be DATA,MODEL such as 4,2, got {shape!r}")
    data, model = map(int, parts)
    devices = jax.devices()
    if not 1 <= data * model <= len(devices):
        raise ValueError(
            f"--mesh {shape} needs {data * model} devices, at least one; there are "
            f"{len(devices)}"
        )
    chosen = np.asarray(devices[: data * model]).reshape(data, model)
    return Mesh(chosen, ("data", "model"))


def check_sizes(mesh: Mesh, batch_size: int, accumulate: int, n_head: int) -> None:
    """Fail if rows or heads cannot be dealt out evenly.

    Raises:
      ValueError: If they cannot.
    """
    data, model = mesh.shape["data"], mesh.shape["model"]
    if batch_size % (data * accumulate):
        raise ValueError(
            f"--batch-size {batch_size} is not a multiple of {data} devices x "
            f"{accumulate} micro-batches"
        )
    if n_head % model:
        raise ValueError(f"{n_head} heads cannot be split over {model} devices")


def spec(path: tuple, shape: tuple[int, ...], model: int) -> PartitionSpec:
    """Of the parameter at a path; optimizer state ends in the same path."""
    names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    owner, leaf = (names[-2], names[-1]) if len(names) > 1 else ("", "")
    axis = None
    if owner in COLUMNS and leaf in ("kernel", "bias"):
        axis = len(shape) - 1
    elif owner in ROWS and leaf == "kernel":
        axis = len(shape) - 2
    elif owner == "wte":  # by token if that goes evenly: 50257 is odd
        axis = 0 if shape and shape[0] % model == 0 else 1
    if axis is None or axis >= len(shape) or shape[axis] % model:
        return PartitionSpec()
    return PartitionSpec(*("model" if i == axis else None for i in range(len(shape))))


def place(tree: Any, mesh: Mesh) -> Any:
    """Parameters, or any state that repeats their paths, laid out on the mesh."""

    def put(path: tuple, x: Any) -> jax.Array:
        where = NamedSharding(mesh, spec(path, np.shape(x), mesh.shape["model"]))
        return jax.device_put(x, where)

    return jax.tree_util.tree_map_with_path(put, tree)


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Rows over the data axis."""
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
