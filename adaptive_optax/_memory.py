"""Device memory and host memory, as far as this JAX knows them by type.

An array in host memory has it in its type (``float32<host>[4]``). `to_host` and
`to_device` move arrays inside `jax.jit` too. A CPU has both, and there the two are the
same memory.
"""

import traceback
from typing import Any

import jax
import optax

KINDS = ("device", "pinned_host")
"""Where a copy may lie, by the names of JAX's memory kinds."""

_Space: Any = getattr(getattr(jax, "memory", None), "Space", None)


def known() -> bool:
    """Whether this JAX has memory spaces in its types."""
    return _Space is not None


def on_host(kind: Any) -> bool:
    """Whether an array of this type (`jax.typeof`) lies in host memory."""
    return known() and getattr(kind, "memory_space", None) == _Space.Host


def refuse_multi_steps() -> None:
    """Require that the caller's caller is not `optax.MultiSteps`.

    At every micro-step that takes the inner state through a select, which is on the
    device and has no type for the host. JAX's message then is one of `jax.lax.cond`.

    Raises:
      ValueError: If it is.
    """
    makes = optax.MultiSteps.init.__code__
    if any(frame.f_code is makes for frame, _ in traceback.walk_stack(None)):
        raise ValueError(
            'recovery.memory="pinned_host" does not go inside optax.MultiSteps, which '
            "takes the state to the device at every micro-step. Accumulate gradients "
            "by hand (docs/howto/accumulation.md), or try recovery=ao.Recovery("
            "dtype=jnp.bfloat16, inner=False)."
        )


def to_host(tree: Any) -> Any:
    """The arrays of a tree in host memory."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, _Space.Host), tree)


def from_host(tree: Any) -> Any:
    """The same arrays, those in host memory moved to the device."""

    def one(leaf: Any) -> Any:
        return to_device(leaf) if on_host(jax.typeof(leaf)) else leaf

    return jax.tree.map(one, tree)


def to_device(tree: Any) -> Any:
    """The arrays of a tree in device memory."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, _Space.Device), tree)
