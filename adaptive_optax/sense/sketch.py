"""A small sketch of a parameter-shaped tree: a strided slice of every leaf.

The alignment needs the last step, and the heading and the average's lag need the way of
many steps. Keeping them whole would cost copies of the model, but a few hundred
coordinates already give a cosine. Small leaves are kept whole, so sums over the sketch
weigh each coordinate by how many it stands for. A slice whose stride divides each
dimension takes the same share from every shard. So it needs no communication, and the
sketch is sharded as its leaf is. A hashed subset would be a gather across devices.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

MIN_COORDINATES = 1024
_STACKED = 2**16  # coordinates of a leaf up to which its products are stacked
_MIN_EXTENT = 16  # entries an axis keeps at least, so that usual meshes divide it


def fraction_of(params: Any, fraction: float) -> float:
    """The share to keep: ``fraction``, or more if that leaves too few coordinates.

    Args:
      params: Pytree of arrays or `jax.ShapeDtypeStruct`.
      fraction: Wanted share in (0, 1]; 1 keeps every coordinate.
    """
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return min(1.0, max(fraction, MIN_COORDINATES / max(size, 1)))


def take(tree: Any, fraction: float, dtype: Any = jnp.float32) -> Any:
    """Slice about ``fraction`` of every leaf; complex ones as (real, imaginary) pairs.

    Args:
      tree: Pytree of arrays.
      fraction: Share of each large leaf to keep, in (0, 1].
      dtype: Real dtype of the result.

    Returns:
      A pytree of the same structure, with leaves of the same rank (one more where
      complex).
    """

    def one(leaf):
        leaf = jnp.asarray(leaf)
        strides = _strides(leaf.shape, _shards(leaf), fraction)
        if max(strides, default=1) > 1:
            leaf = jax.lax.slice(leaf, (0,) * leaf.ndim, leaf.shape, strides)
        if jnp.iscomplexobj(leaf):
            leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
        return leaf.astype(dtype)

    return jax.tree.map(one, tree)


def zeros(params: Any, fraction: float, dtype: Any = jnp.float32) -> Any:
    """An empty sketch of ``params``, which may be abstract."""
    return take(jax.tree.map(jnp.zeros_like, params), fraction, dtype)


def scales(whole: Any, kept: Any) -> list[float]:
    """Coordinates of each leaf per kept coordinate: the weight of its sums."""
    return [
        jnp.size(leaf) / max(jnp.size(part), 1) * (jnp.ndim(part) - jnp.ndim(leaf) + 1)
        for leaf, part in zip(
            jax.tree.leaves(whole), jax.tree.leaves(kept), strict=True
        )
    ]


def inner_products(
    pairs: Sequence[tuple[Any, Any]], scales: Sequence[float]
) -> jax.Array:
    """Inner products of what pairs of sketches stand for; f32[len(pairs)].

    All sums over a small leaf are one reduction, so there is one kernel and not many.
    (One reduction with many operands would also be one kernel, but gather across
    devices.) A large leaf is worth a kernel for each sum, and a stack its memory.

    Args:
      pairs: Sketches of one tree.
      scales: From `scales`, the weight of each leaf's coordinates.
    """
    total = jnp.zeros(len(pairs), jnp.float32)
    columns = zip(
        *(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True) for a, b in pairs),
        strict=True,
    )
    for leaves, scale in zip(columns, scales, strict=True):
        products = [x.astype(jnp.float32) * y.astype(jnp.float32) for x, y in leaves]
        kinds = {jax.typeof(product) for product in products}
        if len(kinds) == 1 and products[0].size <= _STACKED:
            stack = jnp.stack(products)
            sums = jnp.sum(stack, axis=tuple(range(1, stack.ndim)))
        else:  # large, or sharded differently
            sums = jnp.stack([jnp.sum(product) for product in products])
        total += scale * sums
    return total


def cosines(
    dot: jax.Array, square: jax.Array, other: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Cosines, 0 where a direction is missing; and bool[], whether both exist.

    Args:
      dot: f32[...] inner product of the two.
      square: f32[...] of the first with itself.
      other: f32[...] of the second with itself.
    """
    ok = (square > 0) & (other > 0)
    ok &= jnp.isfinite(square) & jnp.isfinite(other) & jnp.isfinite(dot)
    size = jnp.sqrt(jnp.where(ok, square, 1.0)) * jnp.sqrt(jnp.where(ok, other, 1.0))
    return jnp.where(ok, jnp.clip(dot / size, -1.0, 1.0), 0.0), ok


def _shards(leaf: jax.Array) -> tuple[int, ...]:
    """How many devices each axis may be spread over.

    With explicit sharding the type tells it. Otherwise it is the largest power of two
    up to 16 that divides the axis, because the compiler may spread it over as many.
    """
    sharding = getattr(jax.typeof(leaf), "sharding", None)
    spec = getattr(sharding, "spec", ())
    sizes = dict(getattr(getattr(sharding, "mesh", None), "shape", {}))
    names = [() if s is None else s if isinstance(s, tuple) else (s,) for s in spec]
    names += [()] * (leaf.ndim - len(names))
    return tuple(
        math.prod(sizes.get(axis, 1) for axis in group) if group else math.gcd(n, 16)
        for n, group in zip(leaf.shape, names, strict=True)
    )


def _strides(
    shape: tuple[int, ...], shards: tuple[int, ...], fraction: float
) -> tuple[int, ...]:
    """Powers of two: the longest axis is doubled until only the share is kept."""
    strides = [1] * len(shape)
    while math.prod(strides) * 2 <= 1 / fraction:
        extents = [-(-n // s) for n, s in zip(shape, strides, strict=True)]
        open_axes = [
            axis
            for axis, (extent, parts) in enumerate(zip(extents, shards, strict=True))
            if extent >= 2 * _MIN_EXTENT
            and (shape[axis] % 2 == 1 or shape[axis] % (2 * strides[axis] * parts) == 0)
        ]
        if not open_axes:
            break
        longest = max(open_axes, key=lambda axis: extents[axis])
        strides[longest] *= 2
    return tuple(strides)
