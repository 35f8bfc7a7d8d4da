"""The actuators of the loop: bounded gains moved in unconstrained coordinates.

A rule's answer is a change of the gain's *coordinate*:

| gain | coordinate | a change of delta means |
|---|---|---|
| learning rate, sigma | log x | x' = x exp(delta) |
| momentum | log 1/(1 - mu), of its horizon | 1 - mu' = (1 - mu) exp(-delta) |
| momentum, the theory's law | mu itself | mu' = mu + delta |

The change is limited by the slew, and the result is clipped to the bounds. In the log
horizon a step from .9 to .99 is as long as one from .99 to .999, which matches the
effect on the filter; the logit, which others use, spends half its range below .5. A
change of exactly 0 holds the gain bit for bit. This is a case of its own, because
exp(log x) is not exactly x.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax._reasons import NOTHING, Reason
from adaptive_optax._types import Rule, RuleState, Signals


class Coordinate(NamedTuple):
    """A monotone map between a gain and the line on which rules move it."""

    of: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]


TINY = 1e-30  # stands for 0 in a logarithm

LOG = Coordinate(of=lambda x: jnp.log(jnp.maximum(x, TINY)), inverse=jnp.exp)
HORIZON = Coordinate(
    of=lambda mu: -jnp.log1p(-mu), inverse=lambda horizon: -jnp.expm1(-horizon)
)
LINEAR = Coordinate(of=lambda x: x, inverse=lambda x: x)


class Control(NamedTuple):
    """One gain's coordinate, bounds and slew limit (static, not state)."""

    coordinate: Coordinate
    low: float
    high: float
    slew: float = math.inf

    def move(
        self, gain: jax.Array, delta: jax.Array, correction: jax.Array | float = 0.0
    ) -> jax.Array:
        """The gain after a change of its coordinate; a change of 0 keeps it exactly.

        Args:
          gain: f32[] within the bounds.
          delta: f32[] change asked for by a rule, limited to ``slew`` in size. A
            non-finite one holds the gain.
          correction: f32[] change that the slew does not limit (a cut after a
            divergence).

        Returns:
          f32[] within the bounds.
        """
        delta = jnp.where(jnp.isfinite(delta), delta, 0.0)
        delta = jnp.clip(delta, -self.slew, self.slew) + correction
        moved = self.coordinate.inverse(self.coordinate.of(gain) + delta)
        moved = jnp.clip(moved, self.low, self.high).astype(jnp.float32)
        return jnp.where(delta == 0, gain, moved)

    def distance(self, gain: jax.Array, start: float | jax.Array) -> jax.Array:
        """The gain's coordinate minus that of its start; exactly 0 at the start."""
        gap = self.coordinate.of(gain) - self.coordinate.of(jnp.float32(start))
        return jnp.where(gain == start, 0.0, gap).astype(jnp.float32)

    def drive(
        self,
        rule: Rule | None,
        state: RuleState,
        gain: jax.Array,
        start: float | jax.Array,
        signals: Signals,
        *,
        hold: jax.Array,
        correction: jax.Array | float = 0.0,
        no_rise: jax.Array | bool = False,
    ) -> tuple[jax.Array, RuleState]:
        """Ask the rule and move the gain.

        Args:
          rule: The gain's rule, or None to hold it.
          state: The rule's state.
          gain: f32[] within the bounds.
          start: The gain at the start.
          signals: The step's measurements.
          hold: bool[]; where True neither the gain nor the rule's state moves.
          correction: As in `move`; it is made even where the rule holds.
          no_rise: bool[]; where True the rule's change is at most 0.

        Returns:
          The gain and the rule's state.
        """
        return self.drive_and_tell(
            rule,
            state,
            gain,
            start,
            signals,
            hold=hold,
            correction=correction,
            no_rise=no_rise,
        )[:2]

    def drive_and_tell(
        self,
        rule: Rule | None,
        state: RuleState,
        gain: jax.Array,
        start: float | jax.Array,
        signals: Signals,
        *,
        hold: jax.Array,
        correction: jax.Array | float = 0.0,
        no_rise: jax.Array | bool = False,
    ) -> tuple[jax.Array, RuleState, Reason]:
        """The same as `drive`, and the rule's reason where it moves the gain."""
        delta, reason = jnp.zeros((), jnp.float32), NOTHING
        if rule is not None:
            own = signals.standing._replace(log_scale=self.distance(gain, start))
            here = signals._replace(standing=own)
            delta, moved, reason = rule.answer(here, state)
            delta = jnp.where(hold, 0.0, delta)
            state = jax.tree.map(
                lambda new, old: jnp.where(hold, old, new), moved, state
            )
        delta = jnp.where(no_rise, jnp.minimum(delta, 0.0), delta)
        gain_now = self.move(gain, delta, correction)
        rests = (delta == 0) | ~jnp.isfinite(delta) | (gain_now == gain)
        return gain_now, state, reason.unless(rests)
