"""The last good copy of parameters and optimizer state, and the way back to it."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _containers, _memory, _trees
from adaptive_optax.supervise.recovery import Recovery


class CopyState(NamedTuple):
    """What a restore goes back to."""

    good_params: Any  # like params
    good_inner: Any  # the inner optimizer's state of the same step, or ()


def init_copy(
    params: Any,
    inner_state: Any,
    config: Recovery = Recovery(),  # noqa: B008
) -> CopyState:
    """The first parameters and, if it is kept, the first state."""
    copy = CopyState(
        good_params=_copies(params, config.dtype),
        good_inner=_copies(_kept(inner_state, params, config), config.dtype),
    )
    if not config.on_host:
        return copy
    _memory.refuse_multi_steps()
    return _memory.to_host(copy)


def check_copy(
    state: CopyState, params: Any, inner_state: Any, config: Recovery
) -> None:
    """Require a copy that was made under the same settings of ``inner`` and ``dtype``.

    Raises:
      ValueError: If it was not; the message names the setting. Likewise if a checkpoint
        was read without its structure.
    """
    held = len(jax.tree.leaves(state.good_inner))
    if held != (len(jax.tree.leaves(inner_state)) if config.inner else 0):
        raise ValueError(
            f"the state was made with recovery.inner={not config.inner}, this "
            f"transformation with {config.inner}; build it with "
            f"recovery=ao.Recovery(inner={not config.inner}), or begin with "
            "tx.init(params)."
        )
    wanted = CopyState(params, _kept(inner_state, params, config))
    _containers.check(state, wanted, "recovery/copy")
    for good, now in zip(
        jax.tree.leaves(state.good_params), jax.tree.leaves(params), strict=True
    ):
        floats = jnp.issubdtype(now.dtype, jnp.floating)
        dtype = now.dtype if config.dtype is None or not floats else config.dtype
        if good.dtype != jax.dtypes.canonicalize_dtype(dtype):
            made = None if good.dtype == now.dtype else f"jnp.{good.dtype}"
            ours = None if config.dtype is None else f"jnp.{jnp.dtype(dtype)}"
            raise ValueError(
                f"the state was made with recovery.dtype={made}, this transformation "
                f"with {ours}: its copy is {good.dtype}; build it with "
                f"recovery=ao.Recovery(dtype={made}), or begin with tx.init(params)."
            )


def keep_copy(
    state: CopyState,
    keep: jax.Array,
    params: Any,
    inner_state: Any,
    config: Recovery = Recovery(),  # noqa: B008
) -> CopyState:
    """Copy the good parameters and optimizer state where ``keep`` is True.

    Call it before the inner optimizer's update. There, one conditional over the whole
    tree costs nothing while it is not taken. Selects after the update would cost
    several Adam updates.
    """
    place = _memory.to_host if config.on_host else _stay
    now = CopyState(params, _kept(inner_state, params, config))
    return jax.lax.cond(
        keep,
        lambda old, new: place(_like(new, old)),
        lambda old, new: old,
        place(state),
        now,
    )


def good_inner(
    state: CopyState,
    restoring: jax.Array,
    inner_state: Any,
    config: Recovery = Recovery(),  # noqa: B008
    *,
    fresh: Callable[[], Any] | None = None,
) -> Any:
    """The inner optimizer's state to go on from: the good one after a restore.

    The momentum of a divergence would diverge again, so it goes back with the
    parameters. This is a select, because XLA fuses it into the inner optimizer's
    update. A conditional would copy the whole state at every step and make a GPU wait
    for the host. From host memory it is a conditional all the same: a select would
    fetch the copy at every step.

    Args:
      state: The copy after `keep_copy`, which keeps nothing while a restore is under
        way. `keep_copy` must come first: then XLA writes the copy in place. If the copy
        were read before, every step would copy it.
      restoring: i32[], `Judges.restoring` before this step was judged.
      inner_state: The inner optimizer's state.
      config: What the copy holds.
      fresh: Makes the state to go on from where the copy holds none.
    """
    back, structure = restoring == 1, jax.tree.structure(inner_state)
    if config.inner:
        kept = jax.tree.unflatten(structure, jax.tree.leaves(state.good_inner))
    else:
        assert fresh is not None
        kept = fresh()
    if config.inner and config.on_host:
        return jax.lax.cond(
            back,
            lambda good, now: _like(_memory.to_device(good), now),
            lambda good, now: now,
            kept,
            inner_state,
        )
    return jax.tree.map(
        lambda good, now: jnp.where(back, good, now),
        _like(kept, inner_state),
        inner_state,
    )


def go_back(
    state: CopyState,
    going: jax.Array,
    params: Any,
    steps: Any,
    config: Recovery = Recovery(),  # noqa: B008
) -> Any:
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

    def fetched(good: Any, now: Any, steps: Any) -> Any:
        return jax.tree.map(one, _memory.to_device(good), now, steps)

    if config.on_host:
        return jax.lax.cond(
            going,
            fetched,
            lambda good, now, steps: steps,
            state.good_params,
            params,
            steps,
        )
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


def _kept(inner_state: Any, params: Any, config: Recovery) -> Any:
    """What of the inner optimizer's state a copy holds."""
    return without_names(inner_state, params) if config.inner else ()


def _stay(tree: Any) -> Any:
    return tree


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
