"""What a configuration will cost in memory, before anything is allocated."""

import math
from collections.abc import Iterator
from typing import Any

import jax

from adaptive_optax.act.average import AverageState
from adaptive_optax.act.averaging_horizon import WindowState
from adaptive_optax.act.scale_by_rule import ScaleByRuleState
from adaptive_optax.freeze.criterion import FreezeState
from adaptive_optax.scale import arguments
from adaptive_optax.scale.shardings import abstract_state, places
from adaptive_optax.sense.motion import MotionState
from adaptive_optax.state import AdaptiveSchedulerState
from adaptive_optax.supervise.rollback import CopyState

_PARTS: dict[type, str] = {
    AdaptiveSchedulerState: "law",
    ScaleByRuleState: "law",
    MotionState: "sketch",
    AverageState: "average",
    WindowState: "average",
    CopyState: "copy",
    FreezeState: "freezing",
}


def state_bytes(tx: Any, params: Any, shardings: Any = None) -> dict[str, int]:
    """Bytes of a state by part, from shapes alone.

    - ``inner``: the inner optimizer's own state, and all that is not this package's;
    - ``law``: the scalars of the sensor, the supervisor and the rules;
    - ``sketch``: the slices of the parameters' ways, a share of ``sketch=``;
    - ``average``: the evaluation average and its horizon;
    - ``copy``: the last good parameters and inner state (`Recovery`);
    - ``freezing``: the mask and its norms;
    - ``total``: their sum, which is device memory;
    - ``host``: what lies in host memory, which is in no other entry.

    A step needs memory beside its state: gradients, and what XLA keeps for a while
    (``jax.jit(step).lower(...).compile().memory_analysis()``).

    Args:
      tx: Any Optax transformation.
      params: The parameters, or their `jax.ShapeDtypeStruct`s.
      shardings: As for `state_shardings`; bytes are then those of one device. None
        counts the whole state.

    Returns:
      The eight entries, in bytes.

    Raises:
      TypeError: If something else than a sharding is given, or arguments are swapped.
      ValueError: If the shardings do not fit the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import adaptive_optax as ao
      >>> params = {"w": jax.ShapeDtypeStruct((50_000, 4096), jnp.float32)}
      >>> cost = ao.state_bytes(ao.adaptive_adamw(1e-3), params)
      >>> {part: round(size / (50_000 * 4096), 2) for part, size in cost.items()}
      {'inner': 8.0, 'law': 0.0, 'sketch': 0.16, 'average': 4.06, 'copy': 12.0,
       'freezing': 0.0, 'total': 24.22, 'host': 0.0}
    """
    arguments.check("state_bytes(tx, params, shardings)", tx, params)
    shapes, hosts = abstract_state(tx, params)
    if shardings is None:
        sizes = jax.tree.map(lambda leaf: _size(leaf, leaf.shape), shapes)
    else:
        sizes = jax.tree.map(
            lambda leaf, where: _size(leaf, where.shard_shape(leaf.shape)),
            shapes,
            places(shapes, hosts, params, shardings),
        )
    parts = dict.fromkeys(("inner", *_PARTS.values(), "total", "host"), 0)
    both = zip(_split(sizes, "inner"), jax.tree.leaves(hosts), strict=True)
    for (part, size), host in both:
        for key in ("host",) if host else (part, "total"):
            parts[key] += size
    return parts


def _size(leaf: Any, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * leaf.dtype.itemsize


def _split(node: Any, part: str) -> Iterator[tuple[str, int]]:
    """(part, size) of every leaf, in tree order."""
    part = _PARTS.get(type(node), part)
    if isinstance(node, AdaptiveSchedulerState):
        for name, field in zip(node._fields, node, strict=True):
            yield from _split(field, "inner" if name == "inner_state" else part)
        return
    children = jax.tree.leaves(node, is_leaf=lambda x: x is not node and _is_part(x))
    for child in children:
        if _is_part(child):
            yield from _split(child, part)
        else:
            yield part, child


def _is_part(node: Any) -> bool:
    return type(node) in _PARTS
