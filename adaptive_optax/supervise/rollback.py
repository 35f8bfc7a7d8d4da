"""The last good copy of parameters and optimizer state, and the way back to it."""

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees


class CopyState(NamedTuple):
    """What a restore goes back to."""

    good_params: Any  # like params
    good_inner: Any  # the inner optimizer's state of the same step, names dropped


def init_copy(params: Any, inner_state: Any, dtype: Any = None) -> CopyState:
    """The first parameters and state, floating-point arrays in ``dtype`` if given."""
    return CopyState(
        good_params=_copies(params, dtype),
        good_inner=_copies(without_names(inner_state, params), dtype),
    )


def keep_copy(
    state: CopyState, keep: jax.Array, params: Any, inner_state: Any
) -> CopyState:
    """Copy the good parameters and optimizer state where ``keep`` is True.

    Call it before the inner optimizer's update. There, one conditional over the whole
    tree costs nothing while it is not taken. Selects after the update would cost
    several Adam updates.
    """
    good = (state.good_params, state.good_inner)
    now = (params, without_names(inner_state, params))
    params, inner = jax.lax.cond(
        keep, lambda old, new: _like(new, old), lambda old, new: old, good, now
    )
    return CopyState(good_params=params, good_inner=inner)


def good_inner(state: CopyState, restoring: jax.Array, inner_state: Any) -> Any:
    """The inner optimizer's state to go on from: the good one after a restore.

    The momentum of a divergence would diverge again, so it goes back with the
    parameters. This is a select, because XLA fuses it into the inner optimizer's
    update. A conditional would copy the whole state at every step and make a GPU wait
    for the host.

    Args:
      state: The copy after `keep_copy`, which keeps nothing while a restore is under
        way. `keep_copy` must come first: then XLA writes the copy in place. If the copy
        were read before, every step would copy it.
      restoring: i32[], `Judges.restoring` before this step was judged.
      inner_state: The inner optimizer's state.
    """
    back, structure = restoring == 1, jax.tree.structure(inner_state)
    kept = jax.tree.unflatten(structure, jax.tree.leaves(state.good_inner))
    return jax.tree.map(
        lambda good, now: jnp.where(back, good, now),
        _like(kept, inner_state),
        inner_state,
    )


def go_back(state: CopyState, going: jax.Array, params: Any, steps: Any) -> Any:
    """The steps; in a restore they also take the parameters back to the good ones.

    A sum is rounded at the size of the larger parameters. So the difference is added
    twice, and a third time with the first step after the restore. Parameters that had
    grown to 1e7 times the good ones are then back to the last bit.
    """

    def one(good: jax.Array, now: jax.Array, u: jax.Array) -> jax.Array:
        if now.dtype == bool:  # never trained
            return u
        back = _trees.gap(good.astype(now.dtype), now).astype(u.dtype)
        return jnp.where(going, u + back, u)

    return jax.tree.map(one, state.good_params, params, steps)


def without_names(state: Any, params: Any) -> Any:
    """The same tree with plain tuples for the optimizer's NamedTuples.

    A copy under the same field names would make `optax.tree.get(state, "mu")`
    ambiguous. Parts with the structure of the parameters stay as they are.
    """
    structure = jax.tree.structure(params)

    def strip(node: Any) -> Any:
        if jax.tree.structure(node) == structure:
            return node
        if isinstance(node, tuple):
            return tuple(strip(item) for item in node)
        if isinstance(node, list):
            return [strip(item) for item in node]
        if isinstance(node, dict):
            stripped = copy.copy(node)  # a defaultdict is not made from items
            stripped.update({key: strip(item) for key, item in node.items()})
            return stripped
        return node

    return strip(state)


def _copies(tree: Any, dtype: Any) -> Any:
    """Copies in buffers of their own, floating-point ones in ``dtype``."""

    def copy(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            leaf = jnp.zeros_like(leaf)
        narrows = dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.array(leaf, dtype if narrows else leaf.dtype, copy=True)

    return jax.tree.map(copy, tree)


def _like(tree: Any, other: Any) -> Any:
    """Copies in the dtypes of another tree of the same structure."""
    return jax.tree.map(lambda x, o: jnp.array(x, o.dtype, copy=True), tree, other)
