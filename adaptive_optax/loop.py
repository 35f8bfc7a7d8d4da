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

from typing import Any

import jax.numpy as jnp
import optax

from adaptive_optax import _arguments, _trees, recording
from adaptive_optax import state as states
from adaptive_optax._arguments import MISSING, Caller
from adaptive_optax._reasons import NOTHING, EventKind, Reason, because
from adaptive_optax._types import Limits, Standing
from adaptive_optax.act import injection, restart
from adaptive_optax.sense import replicas, sensor
from adaptive_optax.sense import stage as sensing
from adaptive_optax.sense.stage import Seen
from adaptive_optax.stages import Stages
from adaptive_optax.state import AdaptiveSchedulerState
from adaptive_optax.supervise.supervisor import Verdict


def transformation(parts: Stages) -> optax.GradientTransformationExtraArgs:
    """The loop of these stages."""
    caller = Caller(
        _arguments.caller(), AdaptiveSchedulerState, like="sensor.motion.step_sketch"
    )
    feedback, like_of = caller.feedback(), parts.likes()

    def init(params: optax.Params) -> AdaptiveSchedulerState:
        return replicas.typed(parts.axes, parts.init(params), params)

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
        updates, params = caller.trees(
            updates, state, params, needed=parts.needs_params
        )
        states.check_options(state, parts.kept, like_of(params), caller.name)
        value, reward = feedback(value, loss, reward, extra_args)
        like = state.sensor.motion.step_sketch if params is None else params
        updates, value, reward = replicas.mean(parts.axes, updates, like, value, reward)
        if value is not None:
            extra_args["value"] = value

        state = parts.agreement.update(state, params)
        limits = parts.supervision.limits(state.recovery, state.sensor)
        seen, measured = sensing.sense(
            parts.freezing,
            updates,
            state.sensor,
            state.freezing,
            value=value,
            reward=reward,
            limits=limits,
            fraction=parts.fraction,
            decay=parts.about.law.ema_decay,
            large=parts.about.law.large,
        )
        after = state._replace(sensor=measured)
        verdict, standing, after = _supervise(parts, seen, limits, after, params)
        after = _average(parts, seen, verdict, after, params)
        gains, of_rate, after = _decide(parts, seen, verdict, standing, after)
        steps, of_act, after = _act(
            parts, seen, verdict, gains, state, after, params, extra_args
        )
        after = after._replace(
            readings=states.readings(seen.signals),
            events=recording.record(
                parts, seen, limits, verdict, state, after, of_rate, *of_act
            ),
        )
        return steps, replicas.typed(parts.axes, after, like)

    return _arguments.transformation(init, update, stages=parts)


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
) -> tuple[injection.Gains, Reason, AdaptiveSchedulerState]:
    """Move the gains; also returns what the inner optimizer is told of them."""
    count = seen.signals.count
    hold = ~seen.read | verdict.hold | parts.base.ending(count)
    scale, momentum, sigma = state.lr_scale, state.momentum, state.sigma
    laws, reason = (state.lr_rule, state.momentum_rule, state.sigma_rule), NOTHING
    if seen.has_feedback:
        of_rate, of_others = (
            seen.signals._replace(standing=known)
            for known in (standing, standing.of_others())
        )
        scale, lr_rule, reason = parts.rate.update_and_tell(
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
    applied = parts.acting.scale(scale)
    alpha = parts.base.times(applied, count) * share
    ratio, shadow = parts.shadow.update(momentum, state.shadow)
    taken = parts.acting.taken(seen, verdict)
    shadow = optax.tree.where(taken, shadow, state.shadow)
    forget = restart.asked(laws[1], state.momentum_rule)
    return (
        injection.Gains(alpha * ratio, applied * share, momentum, forget),
        reason,
        state._replace(
            learning_rate=alpha,
            lr_scale=scale,
            momentum=momentum,
            sigma=sigma,
            sigma_annealed=sigma * parts.base.quiet(count),
            lr_rule=laws[0],
            momentum_rule=laws[1],
            sigma_rule=laws[2],
            shadow=shadow,
        ),
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
) -> tuple[Any, tuple[Reason, tuple[Reason, ...]], AdaptiveSchedulerState]:
    """Filter the gradient, go back if needed, add dither, and record the step."""
    supervision, freezing = parts.supervision, parts.freezing
    inner_state = supervision.inner(
        before.recovery, state.recovery, params, state.inner_state
    )
    mask, frozen_fraction, changes, frozen = freezing.update(
        seen.leaf_norms, seen.grads, state.freezing
    )
    steps, filtered = freezing.filter(
        parts.inner,
        mask,
        parts.acting.grads(seen),
        inner_state,
        params,
        gains,
        **extra_args,
    )
    taken = parts.acting.taken(seen, verdict)
    inner_state = optax.tree.where(taken, filtered, inner_state)
    steps, spoilt = parts.acting.take(
        params,
        freezing.still(steps, mask),
        taken & ~seen.nonfinite,
        fraction=parts.fraction,
    )
    steps = supervision.finish(before.recovery, state.recovery, verdict, params, steps)
    # Before dither, which the alignment must not see.
    recorded = sensor.record_step(
        state.sensor,
        parts.acting.recorded(steps),
        verdict.restore | verdict.repeat,
        forget=verdict.forget,
        kicked=taken & parts.sigma.leaps(before.sigma, state.sigma),
        fraction=parts.fraction,
    )
    sigma = jnp.where(taken, state.sigma_annealed, 0.0)
    noisy = parts.dither(params, steps, sigma, seen.signals.count)
    reasons = because(spoilt, EventKind.NONFINITE_STEP), changes
    return (
        freezing.only_live(mask, steps, noisy),
        reasons,
        state._replace(
            sensor=recorded,
            freezing=frozen,
            frozen_fraction=frozen_fraction,
            nonfinite_steps=_trees.count_where(spoilt, state.nonfinite_steps),
            inner_state=inner_state,
        ),
    )
