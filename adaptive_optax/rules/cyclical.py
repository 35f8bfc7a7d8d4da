"""Swing a gain around its centre in the log coordinate, by the step count alone.

Two shapes::

    wave(t) = amplitude · triangle(t / period)   or   amplitude · sin(2π t / period)
    delta_t = wave(t) - o_{t-1},   o_t = wave(t)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, Signals
from adaptive_optax.rules import _answer


class CyclicalState(NamedTuple):
    """State of `cyclical`."""

    cyclical_offset: jax.Array  # f32[] where the wave stands


def cyclical(
    *, amplitude: float = 0.7, period: int = 2000, shape: str = "triangular"
) -> Rule:
    """Cycle a gain between exp(-amplitude) and exp(amplitude) times its centre.

    At step t the coordinate is wave(t) away from where the other rules have put it: 0
    at first, ``amplitude`` after a quarter period, ``-amplitude`` after three quarters.
    The wave is computed from the step count, and the rule answers with its change, so
    every full period sums to zero, however long the run.

    Args:
      amplitude: Half the swing in the coordinate, a log factor: 0.7 is about 2x up and
        2x down; at least 0.
      period: Steps per cycle; at least 2.
      shape: ``"triangular"`` or ``"sine"``.

    Returns:
      A `Rule` whose state is the wave's present value. It is open loop: it reads no
      measurement.

    Raises:
      TypeError: If ``amplitude`` is not a number or ``period`` not an integer.
      ValueError: If one is outside its range, or ``shape`` is unknown.

    Example:
      >>> from adaptive_optax import rules
      >>> rule = rules.cyclical(amplitude=1.0, period=500, shape="sine")

    References:
      L. N. Smith, *Cyclical learning rates for training neural networks*, 2017, swings
      linearly between two rates from the lower one up. Here it swings in the log,
      because ratios of rates matter, and around the present gain, because the other
      rules of a blend set the centre.
    """
    _checks.within("amplitude", amplitude, 0.0, example="amplitude=0.7")
    _checks.whole("period", period, 2, example="period=2000")
    _checks.one_of("shape", shape, ("triangular", "sine"))

    def wave(count: jax.Array) -> jax.Array:
        # The remainder is taken in integers: a float32 count loses steps past 2^24.
        phase = jnp.mod(count, period).astype(jnp.float32) / period
        if shape == "sine":
            return amplitude * jnp.sin(2.0 * math.pi * phase)
        return amplitude * (1.0 - 4.0 * jnp.abs(jnp.mod(phase + 0.25, 1.0) - 0.5))

    def init() -> CyclicalState:
        return CyclicalState(cyclical_offset=jnp.zeros((), jnp.float32))

    def update(
        signals: Signals, state: CyclicalState
    ) -> tuple[jax.Array, CyclicalState]:
        offset = wave(signals.count)
        delta = offset - state.cyclical_offset
        return _answer.hold_unless(
            jnp.isfinite(offset), delta, CyclicalState(offset), state
        )

    return Rule(init, update)
