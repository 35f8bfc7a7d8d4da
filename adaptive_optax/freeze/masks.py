"""Masks of frozen leaves, known while tracing or only at run time."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.core import Tracer

from adaptive_optax import _trees
from adaptive_optax.freeze.backward.run import Live, either


def live(masks: Sequence[Any], numbers: Sequence[int]) -> Live:
    """Which labels are live, and which of their layers where that is known."""
    labels: dict[int, list[Any]] = {}
    rows: dict[int, list[Any]] = {}
    for mask, number in zip(masks, numbers, strict=True):
        some = not mask if isinstance(mask, bool) else _any_live(mask)
        labels.setdefault(number, []).append(some)
        rows.setdefault(number, []).append(~mask if np.ndim(mask) else some)
    return Live(
        {number: either(found) for number, found in labels.items()},
        {
            number: found
            for number, found in map(_joined, rows.items())
            if found is not None
        },
    )


def _any_live(mask: Any) -> Any:
    live = ~mask if isinstance(mask, Tracer) else np.any(~mask)
    return jnp.any(live) if isinstance(mask, Tracer) else bool(live)


def _joined(item: tuple[int, list[Any]]) -> tuple[int, Any]:
    """bool[L] of a label whose leaves have masks over the same L layers."""
    number, found = item
    lengths = {np.shape(mask) for mask in found if np.ndim(mask)}
    if len(lengths) != 1:
        return number, None
    (length,) = lengths
    rows = jnp.zeros(length, bool)
    for mask in found:
        rows = rows | mask
    return number, rows


def masked(grad: Any, mask: Any) -> Any:
    """A gradient, exactly zero where its leaf or layer is frozen."""
    if grad.dtype == dtypes.float0 or mask is False:
        return grad
    if mask is True:
        return jnp.zeros_like(grad)
    return jnp.where(_trees.over(mask, grad), jnp.zeros_like(grad), grad)
