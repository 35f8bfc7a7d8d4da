"""A state from what a checkpoint holds: of this version, of an older one, or refused.

What a checkpoint holds is compared by its paths, such as ``averaging/average/w``. A
change of what a field means gives it a new name or raises `state.STATE_VERSION`. In
either case there is a migration here, or the field is named.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax import _memory
from adaptive_optax._types import UNSET
from adaptive_optax.scale.shardings import abstract_state
from adaptive_optax.state import OPTIONS, STATE_VERSION
from adaptive_optax.supervise import lost

Held = dict[str, Any]
"""What a checkpoint holds: arrays by path."""


def state_arrays(state: Any) -> dict[str, Any]:
    """The arrays of a state by path, to save in any format; `load_state` reads them.

    Args:
      state: Any optimizer state.

    Returns:
      {path: array}, in tree order; a path is written like ``averaging/average/w``.

    Example:
      >>> import io, jax.numpy as jnp, numpy as np
      >>> import adaptive_optax as ao
      >>> tx, params, file = ao.adaptive_adamw(1e-3), {"w": jnp.ones(2)}, io.BytesIO()
      >>> np.savez(file, **state_arrays(tx.init(params)))
      >>> _ = file.seek(0)
      >>> state = ao.load_state(tx, params, dict(np.load(file)))
    """
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def load_state(tx: Any, params: Any, held: Any) -> Any:
    """The state of a transformation, from what a checkpoint holds.

    Reads states of this version and of all before it. Anything that does not fit is
    refused by its name, and by the option that it belongs to.

    Args:
      tx: The transformation, built with the options of the run.
      params: The parameters, or their `jax.ShapeDtypeStruct`s.
      held: A state, or what is left of its containers: nested dicts and lists (as Orbax
        restores without a target), or {path: array} of `state_arrays`.

    Returns:
      A state like ``tx.init(params)`` with the arrays that were held; NumPy's become
      JAX's, on the default device. `jax.device_put` with `state_shardings` spreads
      them.

    Raises:
      ValueError: If an array is missing, left over, or of another shape or dtype, or if
        a newer version of this package made the state.

    Example:
      >>> import jax.numpy as jnp
      >>> import adaptive_optax as ao
      >>> tx, params = ao.adaptive_adamw(1e-3), {"w": jnp.ones(2)}
      >>> ao.load_state(ao.adaptive_adamw(1e-3, average=False), params, tx.init(params))
      Traceback (most recent call last):
        ...
      ValueError: the checkpoint has 'averaging/average/w', which this transformation
      does not keep; build it with the `average` that the run was saved with.
    """
    shapes, hosts = abstract_state(tx, params)
    wanted, found = state_arrays(shapes), state_arrays(held)
    found = {path: _named(leaf, wanted.get(path)) for path, leaf in found.items()}
    found = _migrated(found, wanted)
    _check_names(found, wanted)
    leaves = [
        _checked(path, found[path], like, host)
        for (path, like), host in zip(
            wanted.items(), jax.tree.leaves(hosts), strict=True
        )
    ]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _migrated(found: Held, wanted: Held) -> Held:
    """The same state as this version would have written it."""
    found = dict(found)
    for path in wanted:
        prefix, _, name = path.rpartition("state_version")
        if name or not path.endswith("state_version"):
            continue
        version = int(np.asarray(found.get(path, 0)))
        if version > STATE_VERSION:
            raise ValueError(
                f"the checkpoint's {path!r} is {version}, this package reads states up "
                f"to version {STATE_VERSION}; install the newer version that saved it."
            )
        for migrate in MIGRATIONS[version:]:
            migrate(found, wanted, prefix)
        found[path] = jnp.asarray(STATE_VERSION, jnp.int32)
    return found


def _named(leaf: Any, like: Any) -> Any:
    """The array; NumPy's files forget the name of bfloat16 and keep its bytes."""
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "V" and like is not None:
        return leaf.view(like.dtype)
    return leaf


def _count_lost(found: Held, wanted: Held, prefix: str) -> None:
    """0 -> 1: entries that are not finite are counted, and were constant so far.

    No first loss was the smallest float, and is the largest one.
    """
    judges = f"{prefix}recovery/remembered"
    if judges in found:
        first = jnp.asarray(found[judges])[..., 0, 0]
        first = jnp.where(first <= -UNSET, UNSET, first)
        found[judges] = jnp.asarray(found[judges]).at[..., 0, 0].set(first)
    good = [path for path in wanted if path.startswith(f"{prefix}{_COPY}")]
    if good and all(path in found for path in good):
        counts = lost.nonfinite([jnp.asarray(found[path]) for path in good])
        found[f"{prefix}recovery/constant_nonfinite"] = counts
        found[f"{prefix}recovery/lost_entries"] = jnp.zeros_like(counts)


_COPY = "recovery/copy/good_params"


def _no_events(found: Held, wanted: Held, prefix: str) -> None:
    """1 -> 2: nothing was recorded."""
    for path, like in wanted.items():
        if path.startswith(f"{prefix}events/event_"):
            found[path] = jnp.zeros(like.shape, like.dtype)


MIGRATIONS: tuple[Callable[[Held, Held, str], None], ...] = (_count_lost, _no_events)
"""The n-th turns version n into n + 1, in place; it gets what is held, the shapes that
are wanted, and where in the tree the state lies."""


def _check_names(found: Held, wanted: Held) -> None:
    """Require the same paths.

    Raises:
      ValueError: If one is missing or left over.
    """
    missing = [path for path in wanted if path not in found]
    unknown = [path for path in found if path not in wanted]
    # Another inner optimizer's state differs in the copy as well.
    for paths, held in ((unknown, "has {}"), (missing, "has no {}")):
        paths.sort(key=lambda path: "inner_state/" not in path)
        if paths:
            keeps = "does not keep" if paths is unknown else "keeps"
            raise ValueError(
                f"the checkpoint {held.format(repr(paths[0]))}, which this "
                f"transformation {keeps}; build it with {_option(paths[0])} that the "
                "run was saved with."
            )


def _checked(path: str, leaf: Any, like: Any, host: bool) -> Any:
    """One array, of the right shape and dtype, in its memory."""
    if np.shape(leaf) != like.shape or leaf.dtype != like.dtype:
        raise ValueError(
            f"the checkpoint's {path!r} is {leaf.dtype}{list(np.shape(leaf))}, this "
            f"transformation's {like.dtype}{list(like.shape)}; build it with "
            f"{_option(path)} that the run was saved with, and the same parameters."
        )
    if isinstance(leaf, np.ndarray | np.generic):
        leaf = jnp.asarray(leaf)
    return _memory.to_host(leaf) if host else leaf


def _option(path: str) -> str:
    """The option that an array's field belongs to."""
    fields = [field for field in path.split("/") if field in OPTIONS]
    return f"the `{OPTIONS[fields[0]]}`" if fields else "the options"
