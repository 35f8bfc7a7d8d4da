"""Names for leaves: paths, patterns over paths, labels that group them, masks on them.

A path is written ``"blocks/3/attention/kernel"``, whatever the containers are.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from adaptive_optax import _checks, _trees
from adaptive_optax._trees import leaf_paths

LabelFn = Callable[[str], Any]
"""From a leaf's path to its label."""

NUMBERED = re.compile(r".*\d$")


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path, or a module that it lies in, matches one of the patterns."""
    parts = path.split("/")
    prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return any(fnmatchcase(p, pattern) for p in prefixes for pattern in patterns)


def check_patterns(name: str, patterns: Any, paths: Sequence[str]) -> None:
    """Require that every pattern matches a leaf, if there is any.

    There is none in the placeholder with which `optax.tree.map_params` calls ``init``.

    Raises:
      ValueError: If one matches none; the message lists some paths.
    """
    for pattern in patterns:
        if paths and not any(matches(path, [pattern]) for path in paths):
            raise ValueError(
                f"`{name}`: {pattern!r} matches no leaf; the paths are "
                f"{', '.join(paths[:6])}{', ...' if len(paths) > 6 else ''}."
            )


def block_labels(params: Any, depth: int | None = None) -> Any:
    """Label every leaf by the block that it belongs to.

    The label is the path up to the first numbered part (``"blocks/3"``, ``"Dense_0"``),
    else the path of the module that holds the leaf. What sits in one block feeds one
    another, so it pays to skip it together, and under one conditional.

    Args:
      params: A pytree: of linen, nnx, or plain containers.
      depth: Take this many parts of the path instead, at least 1.

    Returns:
      A pytree of strings like ``params``.

    Raises:
      TypeError: If ``depth`` is not an integer.
      ValueError: If it is below 1.

    Example:
      >>> block_labels({"blocks": [{"w": 0.0, "b": 0.0}, {"w": 0.0}], "embed": 0.0})
      {'blocks': [{'b': 'blocks/0', 'w': 'blocks/0'}, {'w': 'blocks/1'}],
       'embed': 'embed'}
    """
    if depth is not None:
        _checks.whole("depth", depth, 1, example="depth=2")

    def label(path: str) -> str:
        parts = path.split("/")
        if depth is not None:
            return "/".join(parts[:depth])
        for n, part in enumerate(parts[:-1]):
            if NUMBERED.match(part):
                return "/".join(parts[: n + 1])
        return "/".join(parts[:-1] or parts)

    return jax.tree.structure(params).unflatten([label(p) for p in leaf_paths(params)])


def resolve(labels: Any, params: Any, name: str = "labels") -> list[Any]:
    """A label for every leaf, from a pytree of labels, a function of paths, or None.

    Raises:
      TypeError: If a label cannot be hashed.
      ValueError: If the labels are of other leaves than ``params``.
    """
    paths = leaf_paths(params)
    if labels is None:
        return paths
    if _is_function(labels):
        found = [labels(path) for path in paths]
    else:
        found = like(labels, params, name, f"{name}=block_labels(params)")
    for path, label in zip(paths, found, strict=True):
        if getattr(label, "__hash__", None) is None:
            raise TypeError(
                f"`{name}` at {path!r} must be a string or another hashable, got "
                f"{label!r}; try {name}=block_labels(params)."
            )
    return found


def like(tree: Any, params: Any, name: str, example: str) -> list[Any]:
    """The leaves of ``tree``, which must have the structure of ``params``.

    Raises:
      ValueError: If it has not; the message says at which path.
    """
    leaves, structure = jax.tree.flatten(tree)
    if structure == jax.tree.structure(params):
        return leaves
    raise ValueError(
        f"`{name}` must have the structure of `params`, but "
        f"{_trees.difference(tree, params)}; try {example}."
    )


def check_mask(frozen: Any, params: Any) -> list[Any]:
    """The masks of all leaves; those that are known now as bool or NumPy bool[L].

    Raises:
      TypeError: If one is not boolean.
      ValueError: If they do not fit ``params``; the message says at which path.
    """
    example = "frozen=jax.tree.map(lambda _: False, params)"
    masks = like(frozen, params, "frozen", example)
    known = []
    for path, mask, leaf in zip(
        leaf_paths(params), masks, jax.tree.leaves(params), strict=True
    ):
        if getattr(mask, "dtype", np.result_type(type(mask))) != np.bool_:
            raise TypeError(
                f"`frozen` at {path!r} must be boolean, got {mask!r}; try {example}."
            )
        if np.shape(mask) not in ((), np.shape(leaf)[:1]):
            raise ValueError(
                f"`frozen` at {path!r} must have shape () or, for stacked layers, "
                f"{np.shape(leaf)[:1]}, got {np.shape(mask)}; the leaf has shape "
                f"{np.shape(leaf)}."
            )
        if isinstance(mask, Tracer):
            known.append(mask)
        else:
            array = np.asarray(mask)
            same = array.all() or not array.any()
            known.append(bool(array.all()) if same and array.size else array)
    return known


def _is_function(labels: Any) -> bool:
    """Whether JAX sees a leaf in it: a callable may also be a tree (Equinox)."""
    is_partial = isinstance(labels, jax.tree_util.Partial)
    return is_partial or callable(labels) and jax.tree_util.all_leaves([labels])
