"""The base rate over a run: a number or a schedule, its bounds, its planned end."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees
from adaptive_optax._reasons import NOTHING, EventKind, Reason, because
from adaptive_optax._types import UNSET, Schedule

REACH = 1e6  # default bounds: the base rate times and over this
ANNEAL = 0.3  # share of a known horizon over which the rate goes to 0


class BaseRate(NamedTuple):
    """What the controller multiplies (static, not state)."""

    number: Any  # the base rate; 1 beside a schedule
    schedule: Schedule | None
    low: Any
    high: Any
    bounded: bool  # the rate itself has bounds, and not only the multiplier
    total_steps: int | None

    def at(self, count: jax.Array) -> jax.Array:
        """The base rate of a step, f32[]."""
        now = self.number if self.schedule is None else self.schedule(count)
        return jnp.asarray(now).astype(jnp.float32)

    def times(self, scale: Any, count: jax.Array) -> jax.Array:
        """The rate at this multiplier, before the warm-up and the planned end."""
        return self.bound(self.at(count) * scale, count)

    def scales(self) -> tuple[Any, Any]:
        """Bounds of the multiplier; with a schedule they do not depend on it."""
        if self.schedule is not None:
            return 1 / REACH, REACH
        return self.low / self.number, self.high / self.number

    def ending(self, count: jax.Array) -> jax.Array:
        """Whether the last part of a known horizon has begun, bool[]."""
        if self.total_steps is None:
            return jnp.zeros((), bool)
        return count > (1 - ANNEAL) * self.total_steps

    def annealing(self, count: jax.Array) -> Reason:
        """Whether that part begins at this step."""
        if self.total_steps is None:
            return NOTHING
        begins = self.ending(count) & ~self.ending(count - 1)
        share = (1 - ANNEAL) * self.total_steps
        return because(begins, EventKind.ANNEALING, count, share)

    def rising(self, count: jax.Array) -> jax.Array:
        """Whether a schedule still rises, bool[]; the multiplier then holds."""
        if self.schedule is None:
            return jnp.zeros((), bool)
        return self.at(_trees.next_count(count)) > self.at(count)

    def limit(self, scale: jax.Array, before: jax.Array, count: jax.Array) -> jax.Array:
        """The multiplier without the part of its move that the bounds would clip."""
        if self.schedule is None or not self.bounded:
            return scale
        now = self.at(count)
        size = jnp.where(now > 0, now, 1.0)
        least = jnp.where(now > self.low, self.low / size, 0.0)
        most = jnp.where(now > 0, jnp.maximum(self.high / size, 1.0), UNSET)
        least, most = jnp.minimum(least, before), jnp.maximum(most, before)
        return jnp.clip(scale, least, most).astype(jnp.float32)

    def bound(self, rate: jax.Array, count: jax.Array) -> jax.Array:
        """Clip to the bounds; a schedule's own value may lie outside."""
        if not self.bounded:
            return rate
        base = self.at(count)
        low, high = jnp.minimum(self.low, base), jnp.maximum(self.high, base)
        return jnp.clip(rate, low, high).astype(jnp.float32)

    def anneal(self, count: jax.Array) -> jax.Array | float:
        """1, then linearly to 0 over the last `ANNEAL` of a known horizon."""
        if self.total_steps is None:
            return 1.0
        left = (self.total_steps - count) / (ANNEAL * self.total_steps)
        return jnp.clip(left, 0.0, 1.0).astype(jnp.float32)

    def quiet(self, count: jax.Array) -> jax.Array | float:
        """What anneals sigma with the rate: `anneal`, and 0 where a schedule is 0."""
        share = self.anneal(count)
        return share if self.schedule is None else share * (self.at(count) > 0)
