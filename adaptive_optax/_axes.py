"""The device axes that `jax.shard_map` and `jax.pmap` bind around a step.

Inside them each device runs the program on data of its own. With ``check_vma=True`` the
type of a value says over which axes it may differ; with False, in `jax.pmap` and in
`jax.vmap`, types say nothing.
"""

from typing import Any

import jax


def bound() -> tuple[str, ...]:
    """The device axes that are bound here."""
    return tuple(jax.sharding.get_abstract_mesh().manual_axes)


def varying(x: Any) -> frozenset[str]:
    """The axes over which an array may differ by its type."""
    kind = jax.typeof(x)
    manual = getattr(kind, "manual_axis_type", None)
    if manual is not None:
        return frozenset(manual.varying)
    return frozenset(getattr(kind, "vma", ()))  # before JAX 0.10


def typed(name: str) -> bool:
    """Whether types say what differs over this bound axis."""
    return name in varying(jax.lax.axis_index(name))


def of_every(tree: Any) -> frozenset[str]:
    """The axes over which every leaf of a tree may differ by its type."""
    if not bound():
        return frozenset()
    found = [varying(x) for x in jax.tree.leaves(tree)]
    return frozenset.intersection(*found) if found else frozenset()


def vary(tree: Any, names: frozenset[str]) -> Any:
    """The same values, of a type that may differ over these axes as well."""

    def one(x: Any) -> Any:
        missing = tuple(sorted(names - varying(x)))
        if not missing:
            return x
        if hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(x, missing, to="varying")
        old: Any = jax.lax  # before JAX 0.8.2
        return old.pvary(x, missing)

    return jax.tree.map(one, tree) if names else tree
