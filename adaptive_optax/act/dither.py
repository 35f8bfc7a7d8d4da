r"""The dither σ D(θ) η: noise on the update, to leave saddles and plateaus.

.. math:: \Delta\theta \leftarrow \Delta\theta + \sigma\, D(\theta)\, \eta, \qquad
    \mathbb{E}\,\eta = 0,\ \mathbb{E}|\eta|^2 = 1

D is a scale per leaf. The noise of a leaf (`noise`) comes from the key
``fold_in(fold_in(seed, step), leaf)``, so no key lives in the state and the bits depend
on no mesh. (One key for a flat buffer would give other noise on other meshes.)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _checks, _trees
from adaptive_optax._arguments import Caller, transformation
from adaptive_optax._types import Schedule
from adaptive_optax.act import noise

SCALES = ("isotropic", "param_rms", "update_rms")
SMALLEST_RMS = 0.01  # of "param_rms": a leaf that starts at zero must move too

Scale = str | Callable[[jax.Array, jax.Array], jax.Array]
"""A name in `SCALES`, or D from one leaf's parameter and update."""


class DitherState(NamedTuple):
    """State of `add_dither`."""

    dither_count: jax.Array  # i32[] updates so far


def dither(
    params: optax.Params | None,
    updates: optax.Updates,
    sigma: float | jax.Array,
    *,
    seed: int | jax.Array,
    count: jax.Array,
    scale: Scale = "param_rms",
    distribution: str = "gaussian",
) -> optax.Updates:
    r"""Δθ + σ D(θ) η for one step.

    The noise is drawn and added in float32 at least and the sum is rounded once. The
    draw sits under one `jax.lax.cond`: at σ = 0 nothing is drawn and the updates come
    back bit for bit. (Under `jax.vmap` with a batched σ the condition becomes a select,
    which always draws.) A σ that is negative or not finite adds nothing.

    Args:
      params: θ, needed by "param_rms" and by a callable scale.
      updates: Δθ.
      sigma: σ, in the units of the parameters ("isotropic") or relative to D. The
        Python number 0 leaves no trace of the noise in the program.
      seed: Of the noise; a Python int or an integer array.
      count: i32[], the step.
      scale: D; see `add_dither`.
      distribution: "gaussian" or "rademacher" (±1, one random bit each).

    Returns:
      The noisy updates, dtypes unchanged.

    Raises:
      ValueError: If the scale needs parameters and there are none, or if a callable
        scale does not broadcast to its leaf.

    Example:
      >>> updates = {"w": jnp.zeros(2)}
      >>> count = jnp.int32(0)
      >>> noisy = dither(updates, updates, 0.1, seed=0, count=count)
      >>> bool(jnp.all(jnp.abs(noisy["w"]) < 0.01))  # rms(0) counts as 0.01
      True
    """
    if isinstance(sigma, int | float) and sigma == 0:
        return updates
    if scale == "param_rms" or callable(scale):
        _checks.params_given(params, "dither")
    leaves, structure = jax.tree.flatten(updates)
    theta = leaves if params is None else jax.tree.leaves(params)
    # A constant would be folded into the draw's own, differently on different meshes.
    strength = jax.lax.optimization_barrier(jnp.asarray(sigma, jnp.float32))

    def noisy() -> list[jax.Array]:
        # Not the default generator: `rbg` would draw other bits on other meshes.
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), count)
        return [
            _add(p, u, strength, jax.random.fold_in(key, index), scale, distribution)
            for index, (p, u) in enumerate(zip(theta, leaves, strict=True))
        ]

    active = jnp.isfinite(strength) & (strength > 0)
    return structure.unflatten(jax.lax.cond(active, noisy, lambda: leaves))


def add_dither(
    sigma: float | jax.Array | Schedule,
    *,
    scale: Scale = "param_rms",
    distribution: str = "gaussian",
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    r"""Add the noise σ D(θ) η to the updates.

    .. math:: \Delta\theta \leftarrow \Delta\theta + \sigma\, D(\theta)\, \eta

    Args:
      sigma: σ ≥ 0, a standard deviation relative to D; a number, a schedule or an
        array. 0 draws nothing.
      scale: D per leaf. "isotropic": 1. "param_rms": max(rms(θ), 0.01), so that σ is
        relative to the parameters and a leaf of zeros still moves. "update_rms":
        rms(Δθ), which cannot leave a point where the update is exactly zero. Or a
        callable ``(param_leaf, update_leaf) -> array`` that broadcasts to the leaf.
      distribution: "gaussian", or "rademacher": ±1, drawn from one random bit each,
        which costs a small part of the Gaussian. Both have variance 1. Complex leaves
        get complex noise of variance 1.
      seed: Of the noise; the same seed gives the same noise on any mesh.

    Returns:
      A transformation for the end of a chain, after the learning rate. Its state is
      the step count.

    Raises:
      TypeError: If ``sigma`` or ``seed`` is not a number.
      ValueError: If ``sigma`` is negative or not finite, a name is unknown, or, in
        ``update``, the scale needs parameters and there are none.

    Example:
      >>> tx = optax.chain(optax.sgd(0.1), add_dither(1e-3))

    References:
      Neelakantan et al., Adding gradient noise improves learning for very deep
      networks, 2015. Optax's ``add_noise`` takes a variance; σ here is its root.
    """
    if not callable(sigma):
        _checks.within("sigma", sigma, 0.0, example="sigma=1e-3")
    if not callable(scale):
        _checks.one_of("scale", scale, SCALES)
    _checks.one_of("distribution", distribution, noise.DISTRIBUTIONS)
    if not isinstance(seed, jax.Array):
        _checks.whole("seed", seed, example="seed=0")

    def init(params):
        del params
        return DitherState(dither_count=jnp.zeros([], jnp.int32))

    def update(updates, state, params=None, **extra_args):
        del extra_args
        needed = scale == "param_rms" or callable(scale)
        caller = Caller("add_dither", DitherState)
        updates, params = caller.trees(updates, state, params, needed=needed)
        count = state.dither_count
        noisy = dither(
            params,
            updates,
            sigma(count) if callable(sigma) else sigma,
            seed=seed,
            count=count,
            scale=scale,
            distribution=distribution,
        )
        return noisy, DitherState(dither_count=_trees.next_count(count))

    return transformation(init, update)


def _add(
    param: jax.Array,
    update: jax.Array,
    sigma: jax.Array,
    key: jax.Array,
    scale: Scale,
    distribution: str,
) -> jax.Array:
    if callable(scale):
        size = jnp.asarray(scale(param, update))
        if jnp.broadcast_shapes(size.shape, update.shape) != update.shape:
            raise ValueError(
                f"`scale` must broadcast to its leaf of shape {update.shape}, got "
                f"shape {size.shape}; try scale=lambda param, update: jnp.abs(param)."
            )
    elif scale == "param_rms":
        size = jnp.maximum(_rms(param), SMALLEST_RMS)
    elif scale == "update_rms":
        size = _rms(update)
    else:
        size = 1.0
    eta = noise.draw(key, update, distribution)
    return (update + sigma * size * eta).astype(update.dtype)


def _rms(leaf: jax.Array) -> jax.Array:
    finite = jnp.where(jnp.isfinite(leaf), leaf, 0)  # a mask may hold infinities
    square = _trees.abs_square(finite.astype(_trees.accumulator_dtype(leaf)))
    return jnp.sqrt(jnp.mean(square)).astype(jnp.float32)
