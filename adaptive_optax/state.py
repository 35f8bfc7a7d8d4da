"""What the loop carries from step to step."""

from typing import Any, NamedTuple

import jax
import optax

from adaptive_optax._types import RuleState
from adaptive_optax.sense.sensor import SignalsState


class AdaptiveSchedulerState(NamedTuple):
    """State of `adaptive_scheduler`. The gains are those of the last update."""

    learning_rate: jax.Array  # f32[] alpha
    momentum: jax.Array  # f32[] mu; the inner optimizer's own where it is not set
    sigma: jax.Array  # f32[] sigma
    lr_scale: jax.Array  # f32[] what the controller multiplies the base rate with
    frozen_fraction: jax.Array  # f32[] share of the parameters that are frozen
    readings: jax.Array  # f32[k] the last signals, in the order of `READINGS`
    nonfinite_steps: jax.Array  # i32[] made by the inner optimizer, as the sketch sees
    sensor: SignalsState
    lr_rule: RuleState
    momentum_rule: RuleState
    sigma_rule: RuleState
    shadow: Any  # `MomentumShadowState`, or () while mu is held
    freezing: Any  # `FreezeState`, or ()
    recovery: Any  # `RecoveryState`, or ()
    averaging: Any  # `AverageState`, or ()
    window: Any  # `WindowState`, or ()
    inner_state: optax.OptState


READINGS = (
    "value",
    "loss_fast",
    "loss_trend",
    "loss_variance",
    "success",
    "reward",
    "reward_trend",
    "grad_norm",
    "grad_norm_z",
    "alignment",
    "alignment_mean",
    "alignment_sem",
    "travel",
)
"""The entries of `Signals` that a state carries for telemetry, in this order."""
