"""The entries of a step that may be taken."""

from typing import Any

import jax
import jax.numpy as jnp

from adaptive_optax.sense import sketch


def take(
    params: Any, steps: Any, taken: jax.Array, *, fraction: float
) -> tuple[Any, jax.Array]:
    """The step without the entries that would make a parameter non-finite.

    A finite gradient can make a step that is not finite: 0 / 0 where an epsilon is 0,
    or a state that has overflowed. A finite step can also take a 16-bit parameter out
    of its range. Such a parameter would never come back, because steps are added.

    Args:
      params: The parameters, or None.
      steps: What the inner optimizer made.
      taken: bool[] False: nothing is taken.
      fraction: Share of the coordinates that the sketch keeps, in (0, 1].

    Returns:
      The steps, and bool[] whether an entry was left out of a step that was taken. Only
      the entries in the sketch are checked for it, which costs no extra pass.
    """
    fits = _finite_after(params, steps)
    looked_at = sketch.take(fits, sketch.fraction_of(fits, fraction), bool)
    # A sum: it is of the same kind as the other reductions after a step, and on a mesh
    # one collective carries them all.
    spoilt = [jnp.sum(~leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(looked_at)]
    steps = jax.tree.map(
        lambda u, ok: jnp.where(taken & ok, u, jnp.zeros_like(u)), steps, fits
    )
    return steps, taken & (sum(spoilt, jnp.float32(0)) > 0)


def _finite_after(params: Any, steps: Any) -> Any:
    """Which entries of a step leave their parameter finite."""

    def one(u: jax.Array, p: jax.Array) -> jax.Array:
        if p.dtype not in (jnp.float16, jnp.bfloat16):
            return jnp.isfinite(u)
        return jnp.isfinite(u) & (jnp.isfinite((p + u).astype(p.dtype)) | (u == 0))

    if params is None:
        return jax.tree.map(jnp.isfinite, steps)
    return jax.tree.map(one, steps, params)
