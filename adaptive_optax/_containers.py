"""Where a state's containers are not those that `init` makes, in words.

A file knows lists and dicts. Read back without their structure, these stand where a
state has tuples.
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import jax


def check(found: Any, wanted: Any, place: str) -> None:
    """Require no list or dict where a tuple belongs.

    Args:
      found: A part of a state.
      wanted: The same part as ``init`` makes it; its leaves do not matter.
      place: Of the part in the state.

    Raises:
      ValueError: If there is one; the message says where.
    """
    differs = difference(found, wanted, place)
    if differs is None:
        return
    where, have, want = differs
    if isinstance(have, list | dict) and isinstance(want, tuple):
        raise _unstructured(where, have, kind(want))


def check_parts(state: Any, parts: Iterable[str]) -> None:
    """Require that no part of a state was read as a list or a dict.

    Args:
      state: A named tuple.
      parts: Fields of it that hold named tuples or nothing, or paths to such (`a.b`).

    Raises:
      ValueError: If one was; the message says where.
    """
    for place in parts:
        above, _, _ = place.rpartition(".")
        if above:
            check_parts(state, [above])
        found = attrgetter(place)(state)
        if isinstance(found, list | dict):
            raise _unstructured(place.replace(".", "/"), found, "a named tuple")


def difference(found: Any, wanted: Any, place: str) -> tuple[str, Any, Any] | None:
    """The first node in which two trees differ: its place and both nodes, or None."""
    if jax.tree.structure(found) == jax.tree.structure(wanted):
        return None
    ours, theirs = _children(found), _children(wanted)
    if type(found) is type(wanted) and list(ours) == list(theirs):
        for key, child in ours.items():
            below = difference(child, theirs[key], f"{place}/{key}")
            if below is not None:
                return below
    return place, found, wanted


def _unstructured(where: str, have: Any, wanted: str) -> ValueError:
    return ValueError(
        f"`{where}` of the state is {kind(have)}, must be {wanted}: a checkpoint was "
        "read without its structure. Call ao.load_state(tx, params, held) with what "
        "was read, or read it into the structure of tx.init(params)."
    )


def kind(node: Any) -> str:
    """What sort of container a node is."""
    name, entries = type(node).__name__, _children(node)
    if jax.tree.structure(node) == jax.tree.structure(0):
        return "an array"
    if hasattr(node, "_fields"):
        return f"a {name}"
    return f"a {name} of {len(entries)}" if entries else f"an empty {name}"


def _children(node: Any) -> dict[str, Any]:
    """The nodes directly below, by their names."""
    below = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    return {
        jax.tree_util.keystr(path, simple=True): child
        for path, child in below[0]
        if path
    }
