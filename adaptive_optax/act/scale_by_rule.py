"""One rule as a link of a chain: updates times a gain that the rule drives."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _arguments, _checks
from adaptive_optax._arguments import MISSING, Caller
from adaptive_optax._types import Rule, RuleState
from adaptive_optax.act.controls import LOG, Control
from adaptive_optax.sense import sensor as sensing


class ScaleByRuleState(NamedTuple):
    """State of `scale_by_rule`."""

    rule_scale: jax.Array  # f32[] what updates are multiplied with, 1 at the start
    rule_sensor: sensing.SensorState
    rule_state: RuleState


def scale_by_rule(
    rule: Rule,
    *,
    bounds: tuple[float, float] = (1e-4, 1e4),
    slew: float = math.inf,
    sketch: float = 1 / 64,
) -> optax.GradientTransformationExtraArgs:
    """Multiply updates by a gain that one rule, or a blend, drives.

    ``scale' = clip(scale exp(rule(signals)))``, moved by the feedback of
    ``update(..., value=loss, reward=r)`` and held without any. This is the bare control
    law: no audit, no restore, no average.

    Args:
      rule: Control law; see `rules` and `blend`.
      bounds: (low, high) for the scale, 0 < low <= 1 <= high.
      slew: Largest change of log scale in one step, > 0.
      sketch: As in `adaptive_scheduler`.

    Returns:
      A transformation for the end of a chain. Alignment needs the gradient. It is taken
      from the extra argument ``grad=`` if that is given, else it is the negative of the
      incoming update, which is the preconditioned gradient. If the gradient or the loss
      is not finite, the gain holds and the updates pass on unchanged.

    Raises:
      TypeError: If ``rule`` is no `Rule`.
      ValueError: If ``bounds`` are reversed or do not hold 1.

    Example:
      >>> import adaptive_optax as ao
      >>> tx = optax.chain(
      ...     optax.clip_by_global_norm(1.0),
      ...     optax.sgd(0.1, momentum=0.9),
      ...     ao.scale_by_rule(ao.rules.alignment()),
      ... )

    References:
      docs/theory.md, "Coordinates": why a rule adds to the logarithm.
    """
    if not isinstance(rule, Rule):
        raise TypeError(
            f"`rule` must be a Rule, got {rule!r}; try "
            "scale_by_rule(rules.alignment())."
        )
    _checks.bounds("bounds", bounds, 0.0, math.inf, example="bounds=(1e-4, 1e4)")
    _checks.positive("bounds[0]", bounds[0], example="bounds=(1e-4, 1e4)")
    _checks.within("the scale's start", 1.0, *bounds, example="bounds=(1e-4, 1e4)")
    _checks.positive("slew", slew, example="slew=0.1", or_inf=True)
    _checks.within("sketch", sketch, 0.0, 1.0, open_low=True, example="sketch=1/64")
    control = Control(LOG, *bounds, slew)
    caller = Caller(
        "scale_by_rule", ScaleByRuleState, like="rule_sensor.motion.step_sketch"
    )
    feedback = caller.feedback()

    def init(params: optax.Params) -> ScaleByRuleState:
        return ScaleByRuleState(
            rule_scale=jnp.ones((), jnp.float32),
            rule_sensor=sensing.init_sensor(params, sketch),
            rule_state=rule.init(),
        )

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        value: Any = MISSING,
        loss: Any = MISSING,
        reward: Any = MISSING,
        grad: optax.Updates | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, ScaleByRuleState]:
        caller.check_state(state, params)
        updates, _ = caller.trees(updates, state, None)
        value, reward = feedback(value, loss, reward, extra_args)
        gradient = jax.tree.map(jnp.negative, updates) if grad is None else grad
        norms = sensing.gradient_norms(gradient)
        signals, _, sensor = sensing.measure(
            state.rule_sensor,
            gradient,
            norms,
            value=value,
            reward=reward,
            fraction=sketch,
        )
        scale, rule_state = state.rule_scale, state.rule_state
        if value is not None or reward is not None:
            scale, rule_state = control.drive(
                rule,
                rule_state,
                scale,
                1.0,
                signals,
                hold=~norms.finite | ~(signals.loss.arrived | signals.reward.arrived),
            )
        steps = jax.tree.map(lambda u: (scale * u).astype(u.dtype), updates)
        sensor = sensing.record_step(
            sensor, steps, signals.standing.restored, fraction=sketch
        )
        return steps, ScaleByRuleState(scale, sensor, rule_state)

    return _arguments.transformation(init, update)
