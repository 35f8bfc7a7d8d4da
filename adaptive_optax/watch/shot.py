"""A snapshot: named numbers, and beside them the tables of the newest events."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax


@jax.tree_util.register_pytree_with_keys_class
class Snapshot(dict[str, jax.Array]):
    """What `snapshot` returns: {name: number}, for a logger or a table of your own.

    The newest events are arrays, and no numbers. So they are no entries, but an
    attribute that `jax.jit`, `jax.lax.scan` and `jax.vmap` carry along, for `History`.
    ``dict(snapshot)`` leaves them out.
    """

    def __init__(
        self, numbers: Mapping[str, Any] = {}, events: Mapping[str, Any] = {}
    ) -> None:
        """Name the numbers of one step, and the tables of its events."""
        super().__init__(numbers)
        self.events = dict(events)

    def copy(self) -> "Snapshot":
        """The same numbers and tables in a snapshot of their own."""
        return Snapshot(self, self.events)

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        """The numbers in the order of their names, then the tables."""
        names = tuple(sorted(self))
        numbers = [(jax.tree_util.DictKey(name), self[name]) for name in names]
        return [*numbers, (jax.tree_util.GetAttrKey("events"), self.events)], names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], parts: Iterable[Any]) -> "Snapshot":
        """The snapshot of what `tree_flatten_with_keys` gave."""
        *numbers, events = parts
        shot = cls(dict(zip(names, numbers, strict=True)))
        shot.events = events  # while JAX looks at structures, anything
        return shot
