"""Which entry of the freeze law's vectors belongs to which leaf, layer and group.

A leaf has one entry, or one a layer if it is stacked over the layers of a scan. All
vectors of the law are in this order; it is found anew at every trace.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax import _trees
from adaptive_optax.freeze import labels


class Layout(NamedTuple):
    """The entries of a tree of parameters. Nothing here is traced."""

    paths: tuple[str, ...]  # of the leaves
    layers: tuple[int | None, ...]  # of the leaves; None: not stacked
    sizes: np.ndarray  # f32[n_entries], numbers in a leaf or in one layer of it
    never: np.ndarray  # bool[n_entries], is not to freeze
    group: np.ndarray | None  # i32[n_entries], freezes as one; None: each by itself

    def starts(self) -> list[int]:
        """The first entry of every leaf, and the number of entries."""
        return [0, *np.cumsum([n or 1 for n in self.layers]).tolist()]


def layout_of(params: Any, never: Any, stacked: Any, groups: Any) -> Layout:
    """Lay out a tree; see `freeze_by_grad_norm` for the arguments.

    Raises:
      ValueError: If a pattern matches no leaf, or a stacked leaf has no axis.
    """
    leaves, paths = jax.tree.leaves(params), labels.leaf_paths(params)
    labels.check_patterns("never", never, paths)
    labels.check_patterns("stacked", stacked, paths)
    layers: list[int | None] = []
    for leaf, path in zip(leaves, paths, strict=True):
        is_stacked = labels.matches(path, stacked)
        if is_stacked and not jnp.shape(leaf):
            raise ValueError(
                f"`stacked`: {path!r} is a scalar and has no layers; leave it out."
            )
        layers.append(jnp.shape(leaf)[0] if is_stacked else None)
    counts = [n or 1 for n in layers]
    sizes = [
        np.prod(jnp.shape(leaf)) / n for leaf, n in zip(leaves, counts, strict=True)
    ]
    avoided = [labels.matches(path, never) for path in paths]
    group = None
    if groups is not None and paths:
        of_leaf = labels.resolve(groups, params, "groups")
        keys = [
            (label, layer)
            for label, n in zip(of_leaf, counts, strict=True)
            for layer in range(n)
        ]
        number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        group = np.asarray([number[key] for key in keys], np.int32)
    never_at = np.repeat(np.asarray(avoided, bool), counts)
    if group is not None:  # one that must not freeze keeps its group awake
        never_at = np.isin(group, group[never_at])
    return Layout(
        tuple(paths),
        tuple(layers),
        np.repeat(np.asarray(sizes, np.float32), counts),
        never_at,
        group,
    )


def entry_norms(tree: Any, layout: Layout) -> jax.Array:
    """f32[n_entries], the L2 norm of every leaf or layer."""
    return _trees.leaf_norms(tree, [n is not None for n in layout.layers])


def group_norms(norms: jax.Array, layout: Layout) -> jax.Array:
    """The norms with those of a group replaced by the norm of the whole group."""
    if layout.group is None:
        return norms
    total = jax.ops.segment_sum(norms * norms, layout.group, _n_groups(layout))
    return jnp.sqrt(total)[layout.group]


def all_of_group(flags: jax.Array, layout: Layout) -> jax.Array:
    """bool[n_entries], whether a flag is up at all entries of the group."""
    if layout.group is None:
        return flags
    least = jax.ops.segment_min(
        flags.astype(jnp.int32), layout.group, _n_groups(layout)
    )
    return (least > 0)[layout.group]


def by_leaf(entries: jax.Array, layout: Layout) -> list[jax.Array]:
    """The entries of every leaf: [] of it, or [L] of one stacked over L layers."""
    starts = layout.starts()
    return [
        entries[start] if n is None else entries[start : start + n]
        for n, start in zip(layout.layers, starts, strict=False)
    ]


def _n_groups(layout: Layout) -> int:
    assert layout.group is not None
    return int(layout.group.max(initial=-1)) + 1
