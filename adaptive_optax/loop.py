"""The loop: sense -> supervise -> decide -> act.

One step follows the theory::

    signals   <- measure(loss, reward, gradient, last step)
    verdict   <- judge(signals)                            a divergence is undone
    alpha     <- clip(alpha exp(rule(signals)))            mu, sigma likewise
    u, h      <- inner(gradient, h; alpha, mu)             any Optax optimizer
    theta     <- theta + (1 - frozen) (u + sigma D(theta) noise)
    averages  <- theta, over an averaging horizon that shrinks on a lag

Each line is a stage in a package of its own. A stage that is off has () for its state.
"""

import functools
from typing import Any

import jax.numpy as jnp
import optax

from adaptive_optax import _arguments, _trees
from adaptive_optax import state as states
from adaptive_optax._arguments import MISSING, Caller
from adaptive_optax._trees import f32
from adaptive_optax._types import Limits, Standing
from adaptive_optax.act import injection, restart, step
from adaptive_optax.sense import replicas, sensor
from adaptive_optax.sense import stage as sensing
from adaptive_optax.sense.stage import Seen
from adaptive_optax.stages import Stages
from adaptive_optax.state import AdaptiveSchedulerState
from adaptive_optax.supervise.supervisor import Verdict

CALLER = Caller(
    "adaptive_scheduler", AdaptiveSchedulerState, like="sensor.motion.step_sketch"
)


def transformation(parts: Stages) -> optax.GradientTransformationExtraArgs:
    """The loop of these stages."""
    feedback = CALLER.feedback()
    structures = functools.cache(parts.structures)

    def init(params: optax.Params) -> AdaptiveSchedulerState:
        inner_state = parts.inner.init(params)
        averaging, window = parts.averaging.init(params)
        first = AdaptiveSchedulerState(
            learning_rate=f32(parts.base.at(jnp.zeros((), jnp.int32))),
            momentum=f32(parts.momentum.start),
            sigma=f32(parts.sigma.start),
            sigma_annealed=f32(parts.sigma.start),
            lr_scale=jnp.ones((), jnp.float32),
            sensor=sensor.init_sensor(params, parts.fraction),
            readings=_trees.pack([0.0] * len(states.READINGS)),
            lr_rule=parts.rate.init(),
            momentum_rule=parts.momentum.init(),
            sigma_rule=parts.sigma.init(),
            shadow=parts.shadow.init(),
            freezing=parts.freezing.init(params),
            frozen_fraction=jnp.zeros((), jnp.float32),
            nonfinite_steps=jnp.zeros((), jnp.int32),
            recovery=parts.supervision.init(params, inner_state),
            averaging=averaging,
            window=window,
            agreement=parts.agreement.init(),
            inner_state=inner_state,
            state_version=jnp.asarray(states.STATE_VERSION, jnp.int32),
        )
        return replicas.typed(parts.axes, first, params)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        value: Any = MISSING,
        loss: Any = MISSING,
        reward: Any = MISSING,
        **extra_args: Any,
    ) -> tuple[optax.Updates, AdaptiveSchedulerState]:
        updates, params = CALLER.trees(
            updates, state, params, needed=parts.needs_params
        )
        states.check_options(state, parts.kept, structures())
        value, reward = feedback(value, loss, reward, extra_args)
        like = state.sensor.motion.step_sketch if params is None else params
        updates, value, reward = replicas.mean(parts.axes, updates, like, value, reward)
        if value is not None:
            extra_args["value"] = value

        state = parts.agreement.update(state, params)
        limits = parts.supervision.limits(state.recovery, state.sensor.signal_count)
        seen, measured = sensing.sense(
            parts.freezing,
            updates,
            state.sensor,
            state.freezing,
            value=value,
            reward=reward,
            limits=limits,
            fraction=parts.fraction,
        )
        after = state._replace(sensor=measured)
        verdict, standing, after = _supervise(parts, seen, limits, after, params)
        after = _average(parts, seen, verdict, after, params)
        gains, after = _decide(parts, seen, verdict, standing, after)
        steps, after = _act(
            parts, seen, verdict, gains, state, after, params, extra_args
        )
        after = after._replace(readings=states.readings(seen.signals))
        return steps, replicas.typed(parts.axes, after, like)

    return _arguments.transformation(init, update)


def _supervise(
    parts: Stages, seen: Seen, limits: Limits, state: AdaptiveSchedulerState, params
) -> tuple[Verdict, Standing, AdaptiveSchedulerState]:
    """Is this still a sound run, or is it time to go back?"""
    verdict, standing, recovery = parts.supervision.update(
        seen,
        state.recovery,
        log_scale=parts.rate.control.distance(state.lr_scale, 1.0),
        limits=limits,
        params=params,
        inner_state=state.inner_state,
    )
    return verdict, standing, state._replace(recovery=recovery)


def _average(
    parts: Stages, seen: Seen, verdict: Verdict, state: AdaptiveSchedulerState, params
) -> AdaptiveSchedulerState:
    """Add the parameters at which this step's loss was measured to the average."""
    averaging, window = parts.averaging.update(
        state.averaging,
        state.window,
        params,
        seen.live_grads,
        healthy=verdict.healthy & seen.learnt,
        reset=verdict.restart,
        restored=verdict.restore | verdict.repeat,
        hold=~seen.learnt,
    )
    return state._replace(averaging=averaging, window=window)


def _decide(
    parts: Stages,
    seen: Seen,
    verdict: Verdict,
    standing: Standing,
    state: AdaptiveSchedulerState,
) -> tuple[injection.Gains, AdaptiveSchedulerState]:
    """Move the gains; also returns what the inner optimizer is told of them."""
    count = seen.signals.count
    hold = ~seen.read | verdict.hold | parts.base.ending(count)
    scale, momentum, sigma = state.lr_scale, state.momentum, state.sigma
    laws = state.lr_rule, state.momentum_rule, state.sigma_rule
    if seen.has_feedback:
        of_rate, of_others = (
            seen.signals._replace(standing=known)
            for known in (standing, standing.of_others())
        )
        scale, lr_rule = parts.rate.update(
            scale,
            laws[0],
            of_rate,
            hold=hold | parts.base.rising(count),
            correction=verdict.correction,
            no_rise=verdict.no_rise,
        )
        momentum, momentum_rule = parts.momentum.update(
            momentum, laws[1], of_others, hold=hold
        )
        sigma, sigma_rule = parts.sigma.update(sigma, laws[2], of_others, hold=hold)
        laws = lr_rule, momentum_rule, sigma_rule
    scale = parts.base.limit(scale, state.lr_scale, count)
    share = parts.base.anneal(count) * parts.supervision.share(state.recovery)
    alpha = parts.base.bound(parts.base.at(count) * scale, count) * share
    ratio, shadow = parts.shadow.update(momentum, state.shadow)
    taken = seen.learnt & verdict.goes_on
    shadow = optax.tree.where(taken, shadow, state.shadow)
    forget = restart.asked(laws[1], state.momentum_rule)
    gains = injection.Gains(alpha * ratio, scale * share, momentum, forget)
    return gains, state._replace(
        learning_rate=alpha,
        lr_scale=scale,
        momentum=momentum,
        sigma=sigma,
        sigma_annealed=sigma * parts.base.quiet(count),
        lr_rule=laws[0],
        momentum_rule=laws[1],
        sigma_rule=laws[2],
        shadow=shadow,
    )


def _act(
    parts: Stages,
    seen: Seen,
    verdict: Verdict,
    gains: injection.Gains,
    before: AdaptiveSchedulerState,
    state: AdaptiveSchedulerState,
    params: Any,
    extra_args: dict[str, Any],
) -> tuple[Any, AdaptiveSchedulerState]:
    """Filter the gradient, go back if needed, add dither, and record the step."""
    supervision, freezing = parts.supervision, parts.freezing
    inner_state = supervision.inner(
        before.recovery, state.recovery, params, state.inner_state
    )
    mask, frozen_fraction, frozen = freezing.update(
        seen.leaf_norms, seen.grads, state.freezing
    )
    steps, filtered = freezing.filter(
        parts.inner,
        mask,
        seen.grads,
        inner_state,
        params,
        gains,
        **extra_args,
    )
    taken = seen.learnt & verdict.goes_on
    inner_state = optax.tree.where(taken, filtered, inner_state)
    steps, spoilt = step.take(
        params, freezing.still(steps, mask), taken, fraction=parts.fraction
    )
    steps = supervision.finish(before.recovery, state.recovery, verdict, params, steps)
    # Before dither, which the alignment must not see.
    recorded = sensor.record_step(
        state.sensor,
        steps,
        verdict.restore | verdict.repeat | verdict.forget,
        fraction=parts.fraction,
    )
    sigma = jnp.where(taken, state.sigma_annealed, 0.0)
    noisy = parts.dither(params, steps, sigma, seen.signals.count)
    return freezing.only_live(mask, steps, noisy), state._replace(
        sensor=recorded,
        freezing=frozen,
        frozen_fraction=frozen_fraction,
        nonfinite_steps=_trees.count_where(spoilt, state.nonfinite_steps),
        inner_state=inner_state,
    )
