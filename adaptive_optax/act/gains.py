"""A driven gain: its control, its rule, and its start."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._arguments import caller
from adaptive_optax._reasons import Reason
from adaptive_optax._trees import f32
from adaptive_optax._types import Rule, RuleState, Signals
from adaptive_optax.act import injection
from adaptive_optax.act.controls import Control


class Driven(NamedTuple):
    """One gain: its bounds and coordinate, its rule, and its start."""

    control: Control
    rule: Rule | None
    start: Any

    def init(self) -> RuleState:
        """The rule's state, () if the gain is held."""
        return self.rule.init() if self.rule else ()

    def update(
        self, gain: jax.Array, state: RuleState, signals: Signals, **moves: Any
    ) -> tuple[jax.Array, RuleState]:
        """The gain and its rule's state after one step; see `Control.drive`."""
        return self.update_and_tell(gain, state, signals, **moves)[:2]

    def update_and_tell(
        self, gain: jax.Array, state: RuleState, signals: Signals, **moves: Any
    ) -> tuple[jax.Array, RuleState, Reason]:
        """The same, and the rule's reason where it moves the gain."""
        return self.control.drive_and_tell(
            self.rule, state, gain, self.start, signals, **moves
        )

    def leaps(self, before: jax.Array, after: jax.Array) -> jax.Array:
        """Whether a rule has more than doubled the gain in one step, bool[]."""
        return jnp.zeros((), bool) if self.rule is None else after > 2 * before


def adapted(
    inner: Any,
    base_rate: Any,
    momentum: Any,
    momentum_rule: Rule | None,
    mu_bounds: tuple[float, float],
    *,
    learning_rate_arg: str | None = None,
    momentum_arg: str | None = None,
) -> tuple[injection.Inner, Any]:
    """The inner optimizer as one that takes gains, and its momentum at the start."""
    if momentum is not None:
        _checks.within("momentum", momentum, *mu_bounds, example="momentum=0.9")

    def adapt(momentum: Any) -> injection.Inner:
        return injection.adapt(
            inner,
            injection.Gains(f32(base_rate), f32(1.0), f32(momentum)),
            momentum_wanted=wanted,
            learning_rate_arg=learning_rate_arg,
            momentum_arg=momentum_arg,
            example=caller(),
        )

    wanted = momentum is not None or momentum_rule is not None
    adapter = adapt(0.0 if momentum is None else momentum)
    own = adapter.momentum if momentum is None else momentum
    if momentum is None and wanted and own is not None:
        adapter = adapt(own)  # the state may be made of the momentum, as a heavy ball's
    if momentum_rule is not None:
        if own is None:
            raise ValueError(
                "the momentum that `momentum_rule` starts from is unknown; give it: "
                f"{caller()}(..., momentum=0.9, momentum_rule=...). A built one's "
                "can be set only if optax.inject_hyperparams made it; else pass "
                f"its factory: {caller()}(optax.adam, ...)."
            )
        _checks.within("momentum", own, *mu_bounds, example="momentum=0.9")
    return adapter, 0.0 if own is None else own
