"""The means over the devices that hold replicas of the parameters.

Inside `jax.shard_map` and `jax.pmap` each device sees the loss and the gradient of its
own share of the batch. Replicas stay equal only if all of them decide from the same
numbers::

    l <- mean_i l_i        r <- mean_i r_i        g <- mean_i g_i

before anything is read. Loss and reward travel in one collective. A value that is equal
on all devices is its own mean, so what was reduced before may come again; where types
prove it equal (``check_vma=True``) nothing is sent.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax import _axes, _trees

OPTION = "adaptive_scheduler(..., axis_name="


def mean(
    names: tuple[str, ...] | None, updates: Any, params: Any, value: Any, reward: Any
) -> tuple[Any, Any, Any]:
    """Gradient, loss and reward, each the mean over the axes.

    Args:
      names: The axes; () reduces nothing, None that all must be reduced already.
      updates: The gradients.
      params: The parameters, or anything that differs over the axes as they do.
      value: Scalar loss, or None.
      reward: Scalar reward, or None.

    Raises:
      ValueError: If an axis is not bound, or parameters differ over it by their type;
        if something is not reduced over another bound axis, or, without ``names``,
        nothing proves that it is.
    """
    if names is None:
        _refuse_unreduced(_axes.bound(), updates, params, value, reward)
    if not names:
        return updates, value, reward
    telling = {name for name in names if _is_typed(name)}
    _refuse_shards(telling, params)
    others = [n for n in _axes.bound() if n not in names and _axes.typed(n)]
    _refuse_unreduced(others, updates, params, value, reward)

    def differs(x: Any) -> tuple[str, ...]:
        return tuple(n for n in names if n not in telling or n in _axes.varying(x))

    def average(gradient: Any) -> Any:
        inexact = jnp.issubdtype(jnp.result_type(gradient), jnp.inexact)
        over = differs(gradient) if inexact else ()
        return jax.lax.pmean(gradient, over) if over else gradient

    updates = jax.tree.map(average, updates)
    fed = [x for x in (value, reward) if x is not None]
    over = tuple(name for name in names if any(name in differs(x) for x in fed))
    if not over:
        return updates, value, reward
    means = list(jax.lax.pmean(jnp.stack([_trees.raised(x) for x in fed]), over))
    value, reward = (
        None if x is None else _like(means.pop(0), x) for x in (value, reward)
    )
    return updates, value, reward


def typed(names: tuple[str, ...] | None, state: Any, params: Any) -> Any:
    """The state as it is; where each device trains by itself, all differs by its type.

    Else a state made inside `jax.shard_map` would have other types after a step.
    """
    return _axes.vary(state, _axes.of_every(params) - frozenset(names or ()))


def _like(mean: jax.Array, x: Any) -> jax.Array:
    """The mean in the dtype of what came, if that is a floating one."""
    dtype = jnp.result_type(x)
    return mean.astype(dtype) if jnp.issubdtype(dtype, np.floating) else mean


def _is_typed(name: str) -> bool:
    try:
        return _axes.typed(name)
    except NameError as error:
        raise ValueError(
            f"`axis_name` names {name!r}, but no such axis is bound here (bound are "
            f"{_axes.bound()}); call update inside jax.shard_map or jax.pmap over it. "
            "Under jax.jit alone leave axis_name out: XLA reduces by itself."
        ) from error


def _refuse_shards(names: set[str], params: Any) -> None:
    """Fail where a device holds parameters that others do not."""
    paths = _trees.leaf_paths(params)
    for path, leaf in zip(paths, jax.tree.leaves(params), strict=True):
        for name in names & _axes.varying(leaf):
            raise ValueError(
                f"the parameter at {path!r} differs over the axis {name!r}, but "
                "axis_name is for replicas. Train shards under jax.jit without "
                "jax.shard_map, where XLA reduces by itself; where each device trains "
                "by itself try axis_name=()."
            )


def _refuse_unreduced(
    names: Iterable[str], updates: Any, params: Any, value: Any, reward: Any
) -> None:
    """Fail where replicas would decide each for themselves."""
    for name in names:
        if jax.lax.axis_size(name) == 1:
            continue
        if not _axes.typed(name):
            raise ValueError(
                f"inside jax.pmap or jax.shard_map(..., check_vma=False) over {name!r} "
                "nothing tells whether loss and gradients were reduced; try "
                f"{OPTION}{name!r}), which takes their means over it, or axis_name=() "
                "if all are reduced, or each device trains by itself."
            )
        named = {"the loss": value, "the reward": reward}
        if name in _axes.of_every(params):  # each device trains by itself, or a shard
            fed = [x for x in named.values() if x is not None]
            if fed and not any(name in _axes.varying(x) for x in fed):
                _refuse_shards({name}, params)
            continue
        paths = _trees.leaf_paths(updates)
        for path, gradient in zip(paths, jax.tree.leaves(updates), strict=True):
            named[f"the gradient at {path!r}"] = gradient
        for what, x in named.items():
            if x is not None and name in _axes.varying(x):
                raise ValueError(
                    f"{what} differs over the axis {name!r}, but not all parameters "
                    "do: each device would move them in its own way. Try "
                    f"{OPTION}{name!r}), which takes the means over it."
                )
