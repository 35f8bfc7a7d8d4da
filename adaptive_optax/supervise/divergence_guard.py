"""Divergence after the audit: the run goes back to its last good parameters.

A copy of them is kept every 20 steps (`supervisor`).

On three strikes the run has *diverged*: the good parameters and optimizer state return,
the rate drops to a quarter, and the next healthy loss sets the level, however high.

The next step checks the restore. If the loss of the good parameters is as high, then
*the data have changed*, and the parameters were not the cause. The rate returns to what
it was, or to the trusted rate if that is higher.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.law import Law
from adaptive_optax.supervise.evidence import Evidence


class GuardState(NamedTuple):
    """State of the guard."""

    checking_restore: jax.Array  # bool[] it went back and cut the rate a step ago
    log_scale_before: jax.Array  # f32[] the log scale before that cut
    trusted_before: jax.Array  # f32[] the trusted log scale before it


class GuardRuling(NamedTuple):
    """The guard's ruling on a step. Scalars."""

    diverged: Any  # bool[]
    data_changed: Any  # bool[]
    correction: Any  # f32[] change of the log scale that this calls for


def init_guard() -> GuardState:
    """The guard before the first step."""
    return GuardState(
        checking_restore=jnp.zeros((), bool),
        log_scale_before=jnp.zeros((), jnp.float32),
        trusted_before=jnp.zeros((), jnp.float32),
    )


def update(
    evidence: Evidence, state: GuardState, trusted: jax.Array, law: Law
) -> tuple[GuardRuling, GuardState]:
    """Judge one step; during the audit nothing happens here.

    Args:
      evidence: Of the step.
      state: The guard.
      trusted: f32[] the trusted log scale.
      law: The law; its ``guard`` has the numbers.
    """
    if law.guard is None:
        no = jnp.zeros((), bool)
        return GuardRuling(no, no, jnp.zeros((), jnp.float32)), state
    e, old, guard = evidence, state, law.guard
    diverged = ~e.auditing & e.out
    convictable = e.repeat & old.checking_restore & e.judged
    data_changed = convictable & (e.rise > guard.data_changed) & ~e.nonfinite
    correction = jnp.where(diverged, guard.diverged, 0.0)
    correction += jnp.where(diverged & e.nonfinite, guard.diverged, 0.0)
    back = jnp.maximum(old.log_scale_before, old.trusted_before) - e.log_scale
    correction += jnp.where(data_changed, back, 0.0)
    return GuardRuling(diverged, data_changed, correction), GuardState(
        checking_restore=diverged,
        log_scale_before=jnp.where(diverged, e.log_scale, old.log_scale_before),
        trusted_before=jnp.where(diverged, trusted, old.trusted_before),
    )
