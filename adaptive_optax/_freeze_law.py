r"""Freezing by gradient norm: which leaves rest, and when they may wake.

Per leaf i, with n the L2 norm of its gradient and a the EMA of the norms that were
observed, debiased by the same EMA of ones:

.. math::
    \text{freeze where } a_i < \tau_i, \qquad \text{thaw where } a_i > h\,\tau_i

A leaf may freeze after the warm-up only, and stays as it is for a minimum dwell. The
gradient of a frozen leaf may have been skipped, so it is never trusted, except in a
*probe*: a burst of steps at which all gradients are computed, to look for revival.
Parameters stay frozen in a probe; they are only looked at.

`freezing` has what the mask does to updates. The backward pass of a leaf with
``freeze_mask & ~freeze_probing`` may be skipped, and nothing here changes if it is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptive_optax import _checks, _trees

REFERENCES = ("absolute", "initial", "largest")


class FreezeState(NamedTuple):
    """The mask and what it is decided from, one entry a leaf, in tree order."""

    freeze_mask: jax.Array  # bool[n_leaves] True = frozen
    freeze_norm_sum: jax.Array  # f32[n_leaves] EMA of the observed gradient norms
    freeze_norm_weight: jax.Array  # f32[n_leaves] the same EMA of ones
    freeze_initial: jax.Array  # f32[n_leaves] debiased EMA at the end of the warm-up
    freeze_dwell: jax.Array  # i32[n_leaves] steps in the present state, up to min_dwell
    freeze_count: jax.Array  # i32[] steps observed
    freeze_probing: jax.Array  # bool[] the next step's gradient is to be whole


class FreezeConfig(NamedTuple):
    """The settings of `freezing.freeze_by_grad_norm`, checked by `freeze_config`."""

    threshold: float | jax.Array = 1e-4
    ema_decay: float = 0.9
    hysteresis: float = 2.0
    min_dwell: int = 50
    warmup: int = 100
    probe_every: int = 20
    probe_steps: int = 1
    relative_to: str = "absolute"
    max_fraction: float = 1.0


def freeze_config(**settings: Any) -> FreezeConfig:
    """Check the settings of `freezing.freeze_by_grad_norm` and bundle them.

    Raises:
      TypeError: If a setting is unknown or not a number.
      ValueError: If one lies outside its range.
    """
    config = FreezeConfig(**settings)
    _checks.within("threshold", config.threshold, 0.0, example="threshold=1e-4")
    _checks.within(
        "ema_decay", config.ema_decay, 0.0, 1.0, open_high=True, example="ema_decay=0.9"
    )
    _checks.within("hysteresis", config.hysteresis, 1.0, example="hysteresis=2.0")
    _checks.whole("min_dwell", config.min_dwell, example="min_dwell=50")
    _checks.whole("warmup", config.warmup, example="warmup=100")
    _checks.whole("probe_every", config.probe_every, 1, example="probe_every=20")
    _checks.whole("probe_steps", config.probe_steps, 1, example="probe_steps=1")
    if config.probe_steps > config.probe_every:
        raise ValueError(
            f"`probe_steps` must be at most `probe_every`, got {config.probe_steps} > "
            f"{config.probe_every}; try probe_steps=1."
        )
    _checks.one_of("relative_to", config.relative_to, REFERENCES)
    _checks.within(
        "max_fraction", config.max_fraction, 0.0, 1.0, example="max_fraction=0.9"
    )
    return config


def leaf_sizes(tree: Any) -> tuple[int, ...]:
    """Number of entries of every leaf; known while tracing."""
    return tuple(int(np.prod(jnp.shape(leaf))) for leaf in jax.tree.leaves(tree))


def init_freezing(params: optax.Params) -> FreezeState:
    """Everything live; ``params`` may be abstract."""
    n = len(jax.tree.leaves(params))
    return FreezeState(
        freeze_mask=jnp.zeros(n, bool),
        freeze_norm_sum=jnp.zeros(n, jnp.float32),
        freeze_norm_weight=jnp.zeros(n, jnp.float32),
        freeze_initial=jnp.zeros(n, jnp.float32),
        freeze_dwell=jnp.zeros(n, jnp.int32),
        freeze_count=jnp.zeros([], jnp.int32),
        freeze_probing=jnp.ones([], bool),
    )


def observe(
    state: FreezeState,
    leaf_norms: jax.Array,
    config: FreezeConfig,
    sizes: Sequence[int],
) -> FreezeState:
    """Take in one step's gradient norms and decide which leaves rest at this step.

    Args:
      state: From `init_freezing` or the step before.
      leaf_norms: f32[n_leaves], L2 norms, reduced over all devices: masks that differ
        between replicas would let them diverge. Entries that are not finite, and those
        of frozen leaves outside a probe, are not looked at.
      config: From `freeze_config`.
      sizes: Entries of every leaf, see `leaf_sizes`.

    Returns:
      The next state; its mask holds for this step's update.
    """
    frozen, count = state.freeze_mask, state.freeze_count
    observed = (~frozen | state.freeze_probing) & jnp.isfinite(leaf_norms)
    decay = config.ema_decay

    def average(old: jax.Array, new: jax.Array | float) -> jax.Array:
        return jnp.where(observed, decay * old + (1 - decay) * new, old)

    norm_sum = average(state.freeze_norm_sum, leaf_norms)
    weight = average(state.freeze_norm_weight, 1.0)
    known = weight > 0
    norm = norm_sum / jnp.where(known, weight, 1.0)

    # A leaf first seen after the warm-up starts its reference there.
    opening = (count < config.warmup) | (state.freeze_norm_weight == 0)
    initial = jnp.where(opening, norm, state.freeze_initial)
    threshold = jnp.asarray(config.threshold, jnp.float32)
    if config.relative_to == "initial":
        threshold = threshold * initial
    elif config.relative_to == "largest":
        threshold = threshold * jnp.max(norm, initial=0.0)

    free = known & (state.freeze_dwell >= config.min_dwell)
    thaw = frozen & free & (norm > config.hysteresis * threshold)
    freeze = ~frozen & free & (count >= config.warmup) & (norm < threshold)
    if config.max_fraction < 1.0:
        freeze = _within_budget(freeze, frozen & ~thaw, norm, config, sizes)

    after = _trees.next_count(count)
    stayed = jnp.minimum(state.freeze_dwell + 1, config.min_dwell)
    return FreezeState(
        freeze_mask=(frozen & ~thaw) | freeze,
        freeze_norm_sum=norm_sum,
        freeze_norm_weight=weight,
        freeze_initial=initial,
        freeze_dwell=jnp.where(thaw | freeze, min(1, config.min_dwell), stayed),
        freeze_count=after,
        freeze_probing=after % config.probe_every < config.probe_steps,
    )


def _within_budget(
    wanted: jax.Array,
    kept: jax.Array,
    norm: jax.Array,
    config: FreezeConfig,
    sizes: Sequence[int],
) -> jax.Array:
    """Those of the wanted leaves that fit, the quietest first."""
    entries = np.asarray(sizes, np.float32)
    budget = config.max_fraction * entries.sum() - jnp.sum(jnp.where(kept, entries, 0))
    order = jnp.argsort(jnp.where(wanted, norm, jnp.inf))
    total = jnp.cumsum(jnp.where(wanted, entries, 0)[order])
    fits = jnp.zeros_like(wanted).at[order].set(total <= budget)
    return wanted & fits
