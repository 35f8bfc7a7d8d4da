"""After the audit, divergence: the run goes back to its last good parameters.

They are kept every 20 steps (`supervisor`)::

    diverged   on three strikes: the good parameters and optimizer state return, the
               rate drops to a quarter, and the next level is taken as it comes
    acquitted  if the loss of the good parameters is as high at the next step: then the
               data have changed, not the parameters. The rate is what it was, or the
               one the prior trusts if that is higher
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.law import Law
from adaptive_optax.supervise.evidence import Evidence


class GuardState(NamedTuple):
    """State of the guard."""

    on_trial: jax.Array  # bool[] it has just gone back and cut the rate
    trial_coordinate: jax.Array  # f32[] the coordinate before the trial
    trial_trusted: jax.Array  # f32[] what was trusted then


class GuardRuling(NamedTuple):
    """What the guard makes of a step. Scalars."""

    diverged: Any  # bool[]
    acquitted: Any  # bool[]
    jump: Any  # f32[] change of the coordinate that this calls for


def init_guard() -> GuardState:
    """The guard before the first step."""
    return GuardState(
        on_trial=jnp.zeros((), bool),
        trial_coordinate=jnp.zeros((), jnp.float32),
        trial_trusted=jnp.zeros((), jnp.float32),
    )


def update(
    evidence: Evidence, state: GuardState, trusted: jax.Array, law: Law
) -> tuple[GuardRuling, GuardState]:
    """Weigh one step; in the audit nothing happens here.

    Args:
      evidence: Of the step.
      state: The guard.
      trusted: f32[] the coordinate that is trusted.
      law: Whose ``guard`` it is.
    """
    if law.guard is None:
        no = jnp.zeros((), bool)
        return GuardRuling(no, no, jnp.zeros((), jnp.float32)), state
    e, old, guard = evidence, state, law.guard
    diverged = ~e.auditing & e.out
    convictable = e.repeat & old.on_trial & e.judged
    acquitted = convictable & (e.rise > guard.acquitted_at) & ~e.nonfinite
    jump = jnp.where(diverged, guard.diverged, 0.0)
    jump += jnp.where(diverged & e.nonfinite, guard.diverged, 0.0)
    back = jnp.maximum(old.trial_coordinate, old.trial_trusted) - e.coordinate
    jump += jnp.where(acquitted, back, 0.0)
    return GuardRuling(diverged, acquitted, jump), GuardState(
        on_trial=diverged,
        trial_coordinate=jnp.where(diverged, e.coordinate, old.trial_coordinate),
        trial_trusted=jnp.where(diverged, trusted, old.trial_trusted),
    )
