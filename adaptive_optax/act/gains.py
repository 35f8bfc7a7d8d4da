"""A gain that is driven: its control, its law, and where it starts."""

from typing import Any, NamedTuple

import jax

from adaptive_optax._types import Rule, RuleState, Signals
from adaptive_optax.act.controls import Control


class Driven(NamedTuple):
    """One gain: where it may move, by which law, and from where."""

    control: Control
    rule: Rule | None
    start: Any

    def init(self) -> RuleState:
        """The law's state, () where the gain is held."""
        return self.rule.init() if self.rule else ()

    def update(
        self, gain: jax.Array, state: RuleState, signals: Signals, **moves: Any
    ) -> tuple[jax.Array, RuleState]:
        """The gain and its law's state after one step; see `Control.drive`."""
        return self.control.drive(self.rule, state, gain, self.start, signals, **moves)
