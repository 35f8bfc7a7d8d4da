r"""Freezing by gradient norm: which leaves rest, and when they may wake.

Per leaf i, with n the L2 norm of its gradient and a the EMA of the norms that were
observed, debiased by the same EMA of ones:

.. math::
    \text{freeze where } a_i < \tau_i, \qquad \text{thaw where } a_i > h\,\tau_i

A leaf may freeze after the warm-up only, and stays as it is for a minimum dwell. The
gradient of a frozen leaf may have been skipped, so it is never trusted, except in a
*probe*: a burst of steps at which all gradients are computed, to look for revival.
Parameters stay frozen in a probe; they are only looked at.

`transform` has what the mask does to updates. The backward pass of a leaf with
``freeze_mask & ~freeze_probing`` may be skipped, and nothing here changes if it is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _checks, _trees
from adaptive_optax._reasons import NOTHING, EventKind, Reason, because
from adaptive_optax._types import UNSET
from adaptive_optax.freeze.layout import (
    Layout,
    all_of_group,
    group_norms,
    layout_of,
)

REFERENCES = ("absolute", "initial", "largest")


class FreezeState(NamedTuple):
    """The mask and the numbers that decide it, one entry a leaf, in tree order.

    A leaf stacked over layers has one entry a layer, so n >= the number of leaves.
    Which leaves are stacked must be known while tracing, so the structure of the state
    holds the patterns: `optax.tree.map_params` calls ``init`` with no leaves.
    """

    freeze_mask: jax.Array  # bool[n] True = frozen
    freeze_stacked: dict[
        str, tuple[()]
    ]  # keys: patterns of the leaves that are stacked
    freeze_norm_sum: jax.Array  # f32[n] EMA of the observed gradient norms
    freeze_norm_weight: jax.Array  # f32[n] the same EMA of ones
    freeze_initial: jax.Array  # f32[n] debiased EMA at the end of the warm-up
    freeze_dwell: jax.Array  # i32[n] steps in the present state, up to min_dwell
    freeze_count: jax.Array  # i32[] steps observed
    freeze_probing: jax.Array  # bool[] the next step's gradient is to be whole


class Freeze(NamedTuple):
    """When leaves rest and when they wake; `freeze_by_grad_norm` explains the numbers.

    Example:
      >>> import adaptive_optax as ao
      >>> freeze = ao.Freeze(0.1, relative_to="initial", never="head")
      >>> tx = ao.adaptive_scheduler(optax.adam, 1e-3, freeze=freeze)
    """

    threshold: float | jax.Array = 1e-4
    ema_decay: float = 0.9
    hysteresis: float = 2.0
    min_dwell: int = 50
    warmup: int = 100
    probe_every: int = 20
    probe_steps: int = 1
    relative_to: str = "absolute"
    max_fraction: float = 1.0
    never: str | Sequence[str] = ()
    stacked: str | Sequence[str] = ()
    groups: Any = None

    def checked(self) -> "Freeze":
        """The same with its patterns as tuples.

        Raises:
          TypeError: If an entry is not a number, or a pattern no text.
          ValueError: If one lies outside its range.
        """
        _checks.within("threshold", self.threshold, 0.0, example="threshold=1e-4")
        _checks.within(
            "ema_decay",
            self.ema_decay,
            0.0,
            1.0,
            open_high=True,
            example="ema_decay=0.9",
        )
        _checks.within("hysteresis", self.hysteresis, 1.0, example="hysteresis=2.0")
        _checks.whole("min_dwell", self.min_dwell, example="min_dwell=50")
        _checks.whole("warmup", self.warmup, example="warmup=100")
        _checks.whole("probe_every", self.probe_every, 1, example="probe_every=20")
        _checks.whole("probe_steps", self.probe_steps, 1, example="probe_steps=1")
        if self.probe_steps > self.probe_every:
            raise ValueError(
                "`probe_steps` must be at most `probe_every`, got "
                f"{self.probe_steps} > {self.probe_every}; try probe_steps=1."
            )
        _checks.one_of("relative_to", self.relative_to, REFERENCES)
        _checks.within(
            "max_fraction", self.max_fraction, 0.0, 1.0, example="max_fraction=0.9"
        )
        return self._replace(
            never=_patterns("never", self.never),
            stacked=_patterns("stacked", self.stacked),
        )

    def layout(self, params: Any) -> Layout:
        """The entries of these parameters, updates or gradients."""
        never = _patterns("never", self.never)
        stacked = _patterns("stacked", self.stacked)
        return layout_of(params, never, stacked, self.groups)


def init_freezing(params: optax.Params, config: Freeze) -> FreezeState:
    """Everything live; ``params`` may be abstract."""
    layout = config.layout(params)
    n = len(layout.sizes)
    return FreezeState(
        freeze_mask=jnp.zeros(n, bool),
        freeze_stacked=dict.fromkeys(_patterns("stacked", config.stacked), ()),
        freeze_norm_sum=jnp.zeros(n, jnp.float32),
        freeze_norm_weight=jnp.zeros(n, jnp.float32),
        freeze_initial=jnp.zeros(n, jnp.float32),
        freeze_dwell=jnp.zeros(n, jnp.int32),
        freeze_count=jnp.zeros([], jnp.int32),
        freeze_probing=jnp.ones([], bool),
    )


def observe(
    state: FreezeState, norms: jax.Array, config: Freeze, layout: Layout
) -> FreezeState:
    """Take in one step's gradient norms and decide which leaves rest at this step.

    Args:
      state: From `init_freezing` or the step before.
      norms: f32[n], L2 norms (`entry_norms`), reduced over all devices: masks that
        differ between replicas would let them diverge. Entries that are not finite, and
        those of frozen leaves outside a probe, are not looked at.
      config: A `Freeze`, checked.
      layout: The config's, of these parameters.

    Returns:
      The next state; its mask holds for this step's update.
    """
    return decide(state, norms, config, layout)[0]


def decide(
    state: FreezeState, norms: jax.Array, config: Freeze, layout: Layout
) -> tuple[FreezeState, tuple[Reason, Reason]]:
    """`observe`, and what has frozen and thawed."""
    frozen, count = state.freeze_mask, state.freeze_count
    norms = group_norms(norms, layout)
    observed = (~frozen | state.freeze_probing) & jnp.isfinite(norms)
    decay = config.ema_decay

    def average(old: jax.Array, new: jax.Array | float) -> jax.Array:
        return jnp.where(observed, decay * old + (1 - decay) * new, old)

    norm_sum = average(state.freeze_norm_sum, norms)
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
    # Only in a probe: outside of one this step's gradient may have been skipped, and a
    # leaf that woke now would follow zeros.
    thaw = frozen & free & observed & (norm > config.hysteresis * threshold)
    freeze = ~frozen & free & (count >= config.warmup) & (norm < threshold)
    freeze = freeze & ~layout.never
    if config.max_fraction < 1.0:
        freeze = _within_budget(freeze, frozen & ~thaw, norm, config, layout)

    after = _trees.next_count(count)
    stayed = jnp.minimum(_trees.next_count(state.freeze_dwell), config.min_dwell)
    mask = (frozen & ~thaw) | freeze
    changes = (
        _reason(freeze, EventKind.FROZE, norm, threshold),
        _reason(thaw, EventKind.THAWED, norm, config.hysteresis * threshold),
    )
    return FreezeState(
        freeze_mask=mask,
        freeze_stacked=state.freeze_stacked,
        freeze_norm_sum=norm_sum,
        freeze_norm_weight=weight,
        freeze_initial=initial,
        freeze_dwell=jnp.where(thaw | freeze, min(1, config.min_dwell), stayed),
        freeze_count=after,
        freeze_probing=after % config.probe_every < config.probe_steps,
    ), changes


def _reason(
    changed: jax.Array, kind: EventKind, norm: jax.Array, limit: jax.Array
) -> Reason:
    """The first entry that has changed."""
    if not changed.size:
        return NOTHING
    which, limit = jnp.argmax(changed), jnp.broadcast_to(limit, norm.shape)
    return because(changed[which], kind, norm[which], limit[which])


def _within_budget(
    wanted: jax.Array,
    kept: jax.Array,
    norm: jax.Array,
    config: Freeze,
    layout: Layout,
) -> jax.Array:
    """Those of the wanted leaves that fit, the quietest first."""
    entries = layout.sizes
    budget = config.max_fraction * entries.sum() - jnp.sum(jnp.where(kept, entries, 0))
    order = jnp.argsort(jnp.where(wanted, norm, UNSET))
    total = jnp.cumsum(jnp.where(wanted, entries, 0)[order])
    fits = jnp.zeros_like(wanted).at[order].set(total <= budget)
    return wanted & all_of_group(fits | ~wanted, layout)


def _patterns(name: str, value: Any) -> tuple[str, ...]:
    """One pattern or several, as a tuple.

    Raises:
      TypeError: If they are no strings.
    """
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    patterns: tuple[Any, ...] = tuple(value) if listed else (value,)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(
                f"`{name}` must hold paths, got {pattern!r}; try {name}=['head/*']."
            )
    return patterns
