"""What the loop is made of: one stage for each line of its law."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _trees, events
from adaptive_optax import state as states
from adaptive_optax._trees import f32
from adaptive_optax.act import injection
from adaptive_optax.act import stage as acting
from adaptive_optax.act.base_rate import BaseRate
from adaptive_optax.act.gains import Driven
from adaptive_optax.agreement import Agreement
from adaptive_optax.freeze.stage import Freezing
from adaptive_optax.law import Law
from adaptive_optax.sense import sensor
from adaptive_optax.state import AdaptiveSchedulerState
from adaptive_optax.supervise.stage import Supervision


class About(NamedTuple):
    """The options that the stages were made of, as far as no stage tells them."""

    inner: Any  # as it was given
    law: Law
    recovery: Any  # `Recovery`, or None
    freeze: Any  # `Freeze`, or None
    rule: Any  # as it was given; None is the law's


class Stages(NamedTuple):
    """What the loop is made of. Static: nothing here changes from step to step."""

    base: BaseRate
    rate: Driven  # of the multiplier
    momentum: Driven
    sigma: Driven
    supervision: Supervision
    averaging: acting.Averaging
    freezing: Freezing
    shadow: acting.Shadow
    dither: acting.Noise
    inner: injection.Inner
    needs_params: bool
    kept: dict[str, bool]  # which fields of the state are more than ()
    fraction: float  # of the coordinates that the sketch keeps
    axes: tuple[str, ...] | None  # over which devices are averaged; None: not said
    agreement: Agreement
    acting: acting.Acting  # what of all this reaches the run
    about: About
    observes: bool = False  # the law only watches

    def init(self, params: Any) -> AdaptiveSchedulerState:
        """The state before the first step."""
        inner_state = self.inner.init(params)
        averaging, window = self.averaging.init(params)
        return AdaptiveSchedulerState(
            learning_rate=f32(self.base.at(jnp.zeros((), jnp.int32))),
            momentum=f32(self.momentum.start),
            sigma=f32(self.sigma.start),
            sigma_annealed=f32(self.sigma.start),
            lr_scale=jnp.ones((), jnp.float32),
            sensor=sensor.init_sensor(params, self.fraction),
            readings=_trees.pack([0.0] * len(states.READINGS)),
            lr_rule=self.rate.init(),
            momentum_rule=self.momentum.init(),
            sigma_rule=self.sigma.init(),
            shadow=self.shadow.init(),
            freezing=self.freezing.init(params),
            frozen_fraction=jnp.zeros((), jnp.float32),
            nonfinite_steps=jnp.zeros((), jnp.int32),
            recovery=self.supervision.init(params, inner_state),
            averaging=averaging,
            window=window,
            agreement=self.agreement.init(),
            events=events.init_events(),
            inner_state=inner_state,
            state_version=jnp.asarray(states.STATE_VERSION, jnp.int32),
        )

    def structures(self) -> dict[str, Any]:
        """The trees of what no parameter gives its structure, by field."""
        makers = {
            "lr_rule": self.rate.init,
            "momentum_rule": self.momentum.init,
            "sigma_rule": self.sigma.init,
            "shadow": self.shadow.init,
        }
        return {
            field: jax.tree.structure(jax.eval_shape(make))
            for field, make in makers.items()
        }


def kept(averaging: Any, recovery: Any, freezing: Any) -> dict[str, bool]:
    """Which fields of the state hold something, by whether their options are on."""
    return {
        "averaging": bool(averaging),
        "recovery": bool(recovery),
        "freezing": bool(freezing),
    }
