"""The entries of a step that may be taken."""

from typing import Any

import jax
import jax.numpy as jnp

from adaptive_optax.sense import sketch


def take(
    params: Any, steps: Any, taken: jax.Array, *, fraction: float
) -> tuple[Any, jax.Array]:
    """The step without the entries that would leave a parameter not finite.

    A gradient may be finite and its step not: 0 / 0 where an epsilon is 0, a state that
    has overflowed. A parameter of 16 bits may also leave its range by a step that is.
    From there nothing returns, since steps are added.

    Args:
      params: The parameters, or None.
      steps: What the inner optimizer made.
      taken: bool[] False: nothing is taken.
      fraction: Share of the coordinates that the sketch keeps, in (0, 1].

    Returns:
      The steps, and bool[] whether an entry was left out of a step that was taken. It
      is asked of the sketch: what is made entry by entry costs no pass of its own.
    """
    fits = _finite_after(params, steps)
    looked_at = sketch.take(fits, sketch.fraction_of(fits, fraction), bool)
    spoilt = [jnp.any(~leaf) for leaf in jax.tree.leaves(looked_at)]
    steps = jax.tree.map(
        lambda u, ok: jnp.where(taken & ok, u, jnp.zeros_like(u)), steps, fits
    )
    return steps, taken & sum(spoilt, False)


def _finite_after(params: Any, steps: Any) -> Any:
    """Which entries of a step leave their parameter finite."""

    def one(u: jax.Array, p: jax.Array) -> jax.Array:
        if p.dtype not in (jnp.float16, jnp.bfloat16):
            return jnp.isfinite(u)
        return jnp.isfinite(u) & (jnp.isfinite((p + u).astype(p.dtype)) | (u == 0))

    if params is None:
        return jax.tree.map(jnp.isfinite, steps)
    return jax.tree.map(one, steps, params)
