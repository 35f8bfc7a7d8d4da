"""Which parameters have entries that no step can bring back: they are not finite.

An infinite constant (a causal mask) is none of these. So the entries are counted, and
compared with how many there were at the start. That needs no look at the copy: read
there, XLA would not write it in place.
"""

from typing import Any

import jax
import jax.numpy as jnp


def nonfinite(params: Any) -> jax.Array:
    """i32[leaves]: how many entries of each parameter are not finite.

    A `jax.ShapeDtypeStruct` has none.
    """

    def one(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jnp.zeros((), jnp.int32)
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.zeros_like(leaf, shape=(), dtype=jnp.int32)
        return jnp.sum(~jnp.isfinite(leaf), dtype=jnp.int32)

    counts = [one(leaf) for leaf in jax.tree.leaves(params)]
    return jnp.stack(counts) if counts else jnp.zeros((0,), jnp.int32)


def entries(params: Any, constant: jax.Array, look: jax.Array) -> jax.Array:
    """i32[leaves]: how many entries of each parameter are lost.

    Args:
      params: The parameters.
      constant: i32[leaves] how many were not finite at the start.
      look: bool[] False counts nothing, and says 0. It costs a pass otherwise.
    """
    count = jax.lax.cond(look, nonfinite, lambda params: constant, params)
    return jnp.maximum(count - constant, 0)
