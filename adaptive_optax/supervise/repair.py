"""Parameters that are not finite any more, put back from the last good copy."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from adaptive_optax import _checks, _memory, _trees
from adaptive_optax.supervise.stage import RecoveryState


class LostParametersWarning(UserWarning):
    """Parameters had entries that were not finite, and were repaired."""


def repair(params: Any, state: Any) -> Any:
    """The parameters, with the last good entries where theirs are not finite.

    A bad restore or a flipped bit can make a parameter NaN. Optax adds to parameters,
    and to NaN nothing can be added, so no step brings it back. The loop then goes back
    nowhere and does not cut the rate. ``snapshot(state)["lost_parameters"]`` counts
    the parameters (leaves) in which that was seen, when the loop wanted to go back or
    to keep a copy: at most 30 sound steps or 5 bad ones later, or, in the audit and
    after new data, when that is over. This function names them in a warning, unless it
    is traced. All other entries stay to the bit.

    Args:
      params: The parameters.
      state: Any optimizer state with a copy somewhere in it: `adaptive_scheduler` with
        ``recovery``.

    Returns:
      Parameters like ``params``, entry by entry: ``p`` where it is finite, and the
      copy's entry where that is.

    Raises:
      ValueError: If the state holds no copy, or one of other parameters.

    Example:
      >>> import jax.numpy as jnp, warnings
      >>> import adaptive_optax as ao
      >>> params = {"w": jnp.ones(2)}
      >>> state = ao.adaptive_adamw(1e-3).init(params)
      >>> struck = {"w": params["w"].at[0].set(jnp.nan)}
      >>> with warnings.catch_warnings(action="ignore"):  # it names 'w'
      ...     print(ao.repair(struck, state)["w"])
      [1. 1.]
    """
    found = _trees.find_states(state, RecoveryState)
    if not found:
        raise ValueError(
            "`state` holds no copy of the parameters; pass recovery=True to "
            "adaptive_scheduler."
        )
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = dict(zip(dict(paths), _trees.leaf_paths(params), strict=True))
    result, lost = dict(paths), {}
    for one in found:
        copy = jax.tree_util.tree_flatten_with_path(one.copy.good_params)[0]
        for path, good in copy:
            leaf = result.get(path)
            if leaf is None or jnp.shape(leaf) != good.shape:
                raise ValueError(
                    "`params` are not those of the copy: no parameter of shape "
                    f"{good.shape} at {jax.tree_util.keystr(path)}; try "
                    "repair(params, state) with the parameters given to update."
                )
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
                continue
            leaf = jnp.asarray(leaf)
            good = _memory.from_host(good).astype(leaf.dtype)
            bad = ~jnp.isfinite(leaf) & jnp.isfinite(good)
            result[path] = jnp.where(bad, good, leaf)
            lost[names[path]] = jnp.sum(bad)
    _tell(lost)
    return structure.unflatten(result.values())


def _tell(lost: dict[str, Any]) -> None:
    if any(map(_checks.is_traced, lost.values())):
        return
    told = {name: int(count) for name, count in lost.items() if int(count)}
    if told:
        listed = ", ".join(f"{name!r} ({count})" for name, count in told.items())
        warnings.warn(
            f"entries that were not finite: {listed}; they are those of the last good "
            "copy now.",
            LostParametersWarning,
            stacklevel=3,
        )
