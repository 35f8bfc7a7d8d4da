"""The state that the loop carries from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from adaptive_optax import _containers, _trees
from adaptive_optax._types import RuleState, Signals
from adaptive_optax.events import EventsState
from adaptive_optax.sense.sensor import SensorState

STATE_VERSION = 2
"""Of `AdaptiveSchedulerState` and all in it; `load_state` reads the older ones."""

OPTIONS = {
    "averaging": ("average",),
    "window": ("average",),
    "recovery": ("recovery",),
    "freezing": ("freeze",),
    "shadow": ("momentum_rule",),
    "lr_rule": ("mode", "law", "rule"),
    "momentum_rule": ("momentum_rule",),
    "sigma_rule": ("sigma_rule",),
    "inner_state": ("inner",),
    "sensor": ("sketch",),
}
"""Which option of `adaptive_scheduler`, or one of which, gives a field its
structure."""


class AdaptiveSchedulerState(NamedTuple):
    """State of `adaptive_scheduler`. The gains are those of the last update."""

    learning_rate: jax.Array  # f32[] alpha
    momentum: jax.Array  # f32[] mu; the inner optimizer's own where it is not set
    sigma: jax.Array  # f32[] sigma before annealing, which its rule moves
    sigma_annealed: jax.Array  # f32[] the same as it was applied
    lr_scale: jax.Array  # f32[] what the controller multiplies the base rate with
    frozen_fraction: jax.Array  # f32[] share of the parameters that are frozen
    readings: jax.Array  # f32[rows, 8] the last signals, in the order of `READINGS`
    nonfinite_steps: jax.Array  # i32[] of the inner optimizer, as the sketch sees
    sensor: SensorState
    lr_rule: RuleState
    momentum_rule: RuleState
    sigma_rule: RuleState
    shadow: Any  # `MomentumShadowState`, or () while mu is held
    freezing: Any  # `FreezeState`, or ()
    recovery: Any  # `RecoveryState`, or ()
    averaging: Any  # `AverageState`, or ()
    window: Any  # `WindowState`, or ()
    agreement: Any  # `AgreementState`, or ()
    events: EventsState
    inner_state: optax.OptState
    state_version: jax.Array  # i32[] `STATE_VERSION` of the package that made it

    def __repr__(self) -> str:
        """The gains, and what sort of optimizer is inside; the rest is long."""
        gains = ("learning_rate", "momentum", "sigma", "lr_scale", "frozen_fraction")
        shown = ", ".join(f"{name}={getattr(self, name)}" for name in gains)
        inner = type(self.inner_state).__name__
        return f"AdaptiveSchedulerState({shown}, ..., inner_state={inner}(...))"


def options_of(field: str) -> str:
    """The options that give a field its structure, as a message writes them."""
    *first, last = (f"`{option}`" for option in OPTIONS[field])
    return f"{', '.join(first)} or {last}" if first else last


def check_options(
    state: Any, kept: dict[str, bool], like: dict[str, Any], caller: str
) -> None:
    """Require a state that was made under the same options.

    Args:
      state: An `AdaptiveSchedulerState`.
      kept: Whether the options keep a field; where they do not, it is ().
      like: Trees whose structure a field must have.
      caller: Who made the transformation.

    Raises:
      ValueError: If it was made under others; the message names the option. Likewise if
        a checkpoint was read without its structure.
    """
    _containers.check_parts(state, (*kept, "window", "events"))
    for field, keeps in kept.items():
        if (jax.tree.structure(getattr(state, field)) != _NOTHING) != keeps:
            (option,), had = OPTIONS[field], not keeps
            raise ValueError(
                f"the state was made with {option}={had}, this transformation with "
                f"{option}={keeps}: `{field}` is{'' if had else ' not'} in it; build "
                f"{caller}(..., {option}={had}), or begin with "
                "tx.init(params)."
            )
    for field, wanted in like.items():
        found = getattr(state, field)
        _containers.check(found, wanted, field)
        differs = _containers.difference(found, wanted, field)
        if differs is not None:
            place, have, want = differs
            raise ValueError(
                f"the state was made with another {options_of(field)}: its `{place}` "
                f"is {_containers.kind(have)}, that of this transformation "
                f"{_containers.kind(want)}; build it with the one of the run, "
                f"{caller}(..., {OPTIONS[field][0]}=...)."
            )


_NOTHING = jax.tree.structure(())

READINGS: dict[str, Callable[[Signals], jax.Array]] = {
    "loss": lambda s: s.loss.value,
    "loss_fast": lambda s: s.loss.fast,
    "loss_trend": lambda s: s.loss.trend,
    "loss_variance_ratio": lambda s: s.loss.variance_ratio,
    "success": lambda s: s.loss.success,
    "reward": lambda s: s.reward.value,
    "reward_trend": lambda s: s.reward.trend,
    "grad_norm": lambda s: s.grad_norm,
    "grad_norm_z": lambda s: s.grad_norm_z,
    "alignment": lambda s: s.alignment.value,
    "alignment_mean": lambda s: s.alignment.mean,
    "alignment_sem": lambda s: s.alignment.sem,
    "dog_step_size": lambda s: s.dog_step_size,
}
"""The signals that a state carries for telemetry, in this order."""


def readings(signals: Signals) -> jax.Array:
    """The signals of a step that the state keeps, f32[rows, 8]."""
    return _trees.pack([of(signals) for of in READINGS.values()])
