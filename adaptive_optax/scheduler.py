"""The loop, wired: signals -> rules -> controls -> filter, dither, freezing.

One step of `adaptive_scheduler` reads like the theory::

    signals   <- measure(loss, reward, gradient, last step)
    verdict   <- judge(signals)                            a divergence goes back
    alpha     <- clip(alpha exp(rule(signals)))            mu, sigma likewise
    u, h      <- inner(gradient, h; alpha, mu)             any Optax optimizer
    theta     <- theta + (1 - frozen) (u + sigma D(theta) noise)
    averages  <- theta, as far back as it pays

Nothing else happens in this file: each line is a module of its own.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _checks, averaging, freezing, holding, injection, window
from adaptive_optax import dither as dithering
from adaptive_optax import recovery as recovering
from adaptive_optax import signals as sensing
from adaptive_optax import sketch as sketching
from adaptive_optax._types import Rule, RuleState, Schedule
from adaptive_optax.controls import HORIZON, LINEAR, LOG, Control
from adaptive_optax.momentum_shadow import momentum_shadow
from adaptive_optax.rules.search import prior
from adaptive_optax.rules.success import success

MODES = {"nudge": 6.0, "search": 3.0, "safe": math.inf}
"""How strongly the base rate is believed, in standard errors (see `rules.prior`)."""

SCHEDULED = "learning_rate=optax.warmup_constant_schedule(0.0, 3e-4, 1000)"
REACH = 1e6  # default bounds: the base rate times and over this
SCALES = (1 / REACH, REACH)  # of a schedule, whose base rate moves
ANNEAL = 0.3  # share of a known horizon over which the rate goes to 0


MOMENTUM_COORDINATES = {"horizon": HORIZON, "linear": LINEAR}


class AdaptiveSchedulerState(NamedTuple):
    """State of `adaptive_scheduler`. The gains are those of the last update."""

    learning_rate: jax.Array  # f32[] alpha
    momentum: jax.Array  # f32[] mu; the inner optimizer's own where it is not set
    sigma: jax.Array  # f32[] sigma
    lr_scale: jax.Array  # f32[] what the controller multiplies the base rate with
    frozen_fraction: jax.Array  # f32[] share of the parameters that are frozen
    readings: jax.Array  # f32[k] the last signals, in the order of `READINGS`
    nonfinite_steps: jax.Array  # i32[] made by the inner optimizer, as the sketch sees
    sensor: sensing.SignalsState
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


def adaptive_scheduler(
    inner: Any,
    learning_rate: float | jax.Array | Schedule | None = None,
    *,
    momentum: float | jax.Array | None = None,
    sigma: float = 0.0,
    mode: str | float = "nudge",
    rule: Rule | None = None,
    momentum_rule: Rule | None = None,
    sigma_rule: Rule | None = None,
    lr_bounds: tuple[float, float] | None = None,
    mu_bounds: tuple[float, float] = (0.0, 0.999),
    sigma_bounds: tuple[float, float] = (0.0, 1e-2),
    slew: float = math.inf,
    momentum_coordinate: str = "horizon",
    momentum_arg: str | None = None,
    total_steps: int | None = None,
    average: bool = True,
    recovery: bool = True,
    recovery_dtype: Any = None,
    freeze_threshold: float | None = None,
    freeze_options: Mapping[str, Any] | None = None,
    dither_scale: Any = "param_rms",
    seed: int = 0,
    sketch: float = 1 / 64,
) -> optax.GradientTransformationExtraArgs:
    """Wrap any Optax optimizer so that its training regulates itself.

    With l the loss, v its noise, r a reward, and f the rules' answers::

        h'     = Phi(h, g; mu)        u = U(h', g; alpha)
        theta' = theta - u + sigma D(theta) eta
        alpha' = clip(alpha exp(f_alpha))    sigma' = clip(sigma exp(f_sigma))
        mu'    = clip(1 - (1 - mu) exp(-f_mu))

    Feed it back: ``tx.update(grads, state, params, value=loss)``. In a step without
    ``value`` or ``reward`` every gain holds, and in a run without them the wrapper is
    transparent.

    By default the rate rises to ``learning_rate`` over 20 steps and is on probation for
    60 (`recovery`), then moves only on evidence (docs/law.md). Where a reward comes, it
    is judged in the loss's stead, which is then a surrogate. Parameters are averaged
    for evaluation: `eval_params`.

    Args:
      inner: A factory such as `optax.adamw` or `functools.partial(optax.adamw,
        weight_decay=0.1)`, called with this step's gains; or a built transformation,
        whose updates are scaled by alpha over the base rate. Prefer the factory:
        scaling the output is not scaling the learning rate for optimizers whose state
        depends on it (lars, rmsprop with momentum, rprop, fromage, adafactor with
        weight decay, schedule_free, dog), and nothing in a built one can tell.
      learning_rate: Base rate, > 0, or an Optax schedule, which the controller
        multiplies; while it rises the multiplier holds. Required for a factory; for a
        built transformation it only names what its rate is (default 1).
      momentum: Momentum in [0, 1) to set at every step; None leaves the factory's own.
      sigma: Standard deviation of the dither, relative to D, >= 0; 0 draws no noise.
      mode: How far the base rate is believed: ``"nudge"`` takes it as sound,
        ``"search"`` for a guess, ``"safe"`` only ever lowers it after a divergence or a
        bad start, and may take the latter back. Or the number behind them, the prior's
        strength >= 0 in standard errors: 6, 3 and infinity.
      rule: Control law of the rate, in place of the mode's; see `rules` and `blend`.
        What fails a start is still the mode's.
      momentum_rule: Control law of the momentum; None holds it.
      sigma_rule: Control law of sigma; None is `rules.success()` where sigma > 0.
      lr_bounds: (low, high) for the rate, 0 < low <= high; by default the base rate
        over and times 1e6. A schedule's own value is never clipped, only what the
        controller makes of it; what the warm-up and `total_steps` take of it may lie
        below.
      mu_bounds: (low, high) for the momentum, within [0, 1).
      sigma_bounds: (low, high) for sigma, >= 0.
      slew: Largest change of any gain's coordinate in one step, > 0.
      momentum_coordinate: ``"horizon"`` moves log 1/(1 - mu); ``"linear"`` moves mu.
      momentum_arg: The factory's momentum argument if it has an unusual name.
      total_steps: Length of the run if it is known, at least the 60 steps of the audit
        (>= 2 without ``recovery``): the control then holds over the last 30 % of it and
        the rate goes to 0 linearly. Not with a schedule that itself decays within it.
      average: Keep the polynomial average for `eval_params` (one copy of the
        parameters, float32 at least).
      recovery: Watch for divergence and go back to a last good copy (one copy of the
        parameters and of the inner state).
      recovery_dtype: Floating-point dtype of that copy, such as ``jnp.bfloat16`` for
        half its memory; by default it is kept as it is, and a restore is exact.
      freeze_threshold: L2 gradient norm of a leaf below which it freezes, >= 0; None
        never freezes. See `freeze_by_grad_norm`. The time of the optimizer falls with
        the frozen share; `frozen_value_and_grad` saves that of the backward pass.
      freeze_options: Further arguments of `freeze_by_grad_norm`, such as
        ``{"relative_to": "initial", "groups": block_labels(params)}``.
      dither_scale: D of the dither: ``"param_rms"``, ``"update_rms"``,
        ``"isotropic"`` or a callable. See `add_dither`.
      seed: Of the dither's noise.
      sketch: Share of the coordinates kept to measure alignment, heading and the
        average's lag, in (0, 1]; 1 is exact. At least 1,024 are kept in all, so small
        models are measured exactly.

    Returns:
      A transformation whose ``update`` takes ``value`` (or ``loss``) and ``reward``,
      scalars below 1e37 in size, and passes all extra arguments on to the inner
      optimizer. Updates have the gradients' dtypes; every controller scalar is float32.

      A step whose loss, reward or gradient is not finite is counted and not taken: the
      update is zero, the gains hold, the inner optimizer sees a zero gradient. Three
      in a row (net of good ones) are a divergence. Entries of the inner optimizer's
      own step that are not finite are 0. With ``recovery=True`` differentiate
      through it in forward mode only where no divergence is expected.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a number lies outside its domain, a mode or scale is unknown, or a
        gain cannot be reached; later, if a feedback is not a scalar or the parameters
        that a part needs are missing.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import adaptive_optax as ao
      >>> tx = ao.adaptive_scheduler(optax.sgd, learning_rate=0.1)
      >>> params = jnp.ones(3)
      >>> state = tx.init(params)
      >>> loss, grads = jax.value_and_grad(lambda x: jnp.sum(x**2))(params)
      >>> updates, state = tx.update(grads, state, params, value=loss)
      >>> params = optax.apply_updates(params, updates)
      >>> print(f"{ao.snapshot(state)['learning_rate']:.2f}")  # it warms up
      0.01

    References:
      docs/theory.md maps every equation to its module.
    """
    _checks.flag("average", average)
    _checks.flag("recovery", recovery)
    schedule = learning_rate if callable(learning_rate) else None
    base_rate = _base_rate(inner, learning_rate, lr_bounds)
    low, high = lr_bounds or (base_rate / REACH, base_rate * REACH)
    dithers = _check_options(
        mode=mode,
        rules={
            "rule": rule,
            "momentum_rule": momentum_rule,
            "sigma_rule": sigma_rule,
        },
        sigma=sigma,
        mu_bounds=mu_bounds,
        sigma_bounds=sigma_bounds,
        slew=slew,
        momentum_coordinate=momentum_coordinate,
        dither_scale=dither_scale,
        sketch=sketch,
    )
    if total_steps is not None:
        _check_horizon(total_steps, schedule, audited=recovery)
    if recovery_dtype is not None:
        _check_dtype(recovery_dtype, recovery)
    freeze = _freeze_config(freeze_threshold, freeze_options)
    one = _f32(1.0)
    if momentum is not None:
        _checks.within("momentum", momentum, *mu_bounds, example="momentum=0.9")
    adapter = injection.adapt(
        inner,
        injection.Gains(
            _f32(base_rate), one, _f32(0.0 if momentum is None else momentum)
        ),
        momentum_wanted=momentum is not None or momentum_rule is not None,
        momentum_arg=momentum_arg,
    )
    own_momentum = adapter.momentum if momentum is None else momentum
    if momentum_rule is not None and own_momentum is None:
        raise ValueError(
            "the momentum that `momentum_rule` starts from is unknown; give it: "
            "adaptive_scheduler(..., momentum=0.9, momentum_rule=...)."
        )
    start_momentum = 0.0 if own_momentum is None else own_momentum
    if momentum_rule is not None:
        _checks.within("momentum", start_momentum, *mu_bounds, example="momentum=0.9")
    if not isinstance(seed, jax.Array):
        _checks.whole("seed", seed, example="seed=0")

    default_law = rule is None
    strength = MODES[mode] if isinstance(mode, str) else mode
    if rule is None:
        rule = prior(strength, adapter.memory if momentum is None else momentum)
    if sigma_rule is None and dithers:
        sigma_rule = success()
    scales = (low / base_rate, high / base_rate) if schedule is None else SCALES
    rate = Control(LOG, *scales, slew)
    mu = Control(MOMENTUM_COORDINATES[momentum_coordinate], *mu_bounds, slew)
    dither = Control(LOG, *sigma_bounds, slew)
    shadow = None
    if momentum_rule is not None and adapter.make is not None:
        make = adapter.make
        shadow = momentum_shadow(
            lambda momentum: make(injection.Gains(one, one, momentum)), start_momentum
        )

    def base(count: jax.Array) -> jax.Array:
        now = base_rate if schedule is None else schedule(count)
        return jnp.asarray(now).astype(jnp.float32)

    def init(params: optax.Params) -> AdaptiveSchedulerState:
        inner_state = adapter.init(params)
        return AdaptiveSchedulerState(
            learning_rate=_f32(base(jnp.zeros((), jnp.int32))),
            momentum=_f32(start_momentum),
            sigma=_f32(sigma),
            lr_scale=jnp.ones((), jnp.float32),
            sensor=sensing.init_signals(params, sketch),
            readings=jnp.zeros(len(READINGS), jnp.float32),
            lr_rule=rule.init(),
            momentum_rule=momentum_rule.init() if momentum_rule else (),
            sigma_rule=sigma_rule.init() if sigma_rule else (),
            shadow=shadow.init() if shadow else (),
            freezing=freezing.init_freezing(params, freeze) if freeze else (),
            frozen_fraction=jnp.zeros((), jnp.float32),
            nonfinite_steps=jnp.zeros((), jnp.int32),
            recovery=(
                recovering.init_recovery(params, inner_state, dtype=recovery_dtype)
                if recovery
                else ()
            ),
            averaging=averaging.init_average(params) if average else (),
            window=window.init_window(params, sketch) if average else (),
            inner_state=inner_state,
        )

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        value: Any = None,
        loss: Any = None,
        reward: Any = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, AdaptiveSchedulerState]:
        value = _one_loss(value, loss)
        for name, feedback in (("value", value), ("reward", reward)):
            if feedback is not None:
                _checks.scalar_feedback(name, feedback)
        if average or recovery or dithers:
            _checks.params_given(params, "adaptive_scheduler")
        fed = value is not None or reward is not None

        # Signals, without what is frozen: it may have been skipped, or be seen in a
        # probe. A gradient that is not finite goes no further than its norm.
        layout = freeze.layout(updates) if freeze else None
        norms = sensing.gradient_norms(
            updates,
            layout and [n is not None for n in layout.layers],
            state.freezing.freeze_mask if freeze else None,
        )
        grads = jax.tree.map(
            lambda g: jnp.where(norms.finite, g, jnp.zeros_like(g)), updates
        )
        live = grads
        if freeze:
            asleep = freezing.mask_tree(state.freezing, updates)
            live = holding.zero_frozen(grads, asleep)
        signals, sensor = sensing.measure(
            state.sensor, live, norms, value=value, reward=reward, fraction=sketch
        )
        nonfinite = sensing.missed(sensor, state.sensor)
        grads = jax.tree.map(
            lambda g: jnp.where(nonfinite, jnp.zeros_like(g), g), grads
        )
        count = signals.count
        hold = nonfinite
        if total_steps is not None:
            hold = hold | (count > (1 - ANNEAL) * total_steps)
        # A schedule that still warms up is not to be multiplied away.
        rising = hold if schedule is None else hold | (base(count + 1) > base(count))
        falling = base(count) < 0.5 * base(count // 2)

        # Verdict: is this still a run, or is it time to go back?
        guard, verdict = state.recovery, recovering.ACQUITTED
        distance = rate.distance(state.lr_scale, 1.0)
        if recovery and fed:
            signals = recovering.annotate(signals, guard)
            first_reward = sensing.rewarded(sensor) & ~sensing.rewarded(state.sensor)
            verdict, guard = recovering.judge(
                recovering.forget_levels(guard, first_reward),
                sensing.by_reward(signals, sensor),
                distance,
                nonfinite=nonfinite,
                strength=strength,
                held=rising if schedule is None else rising | falling,
            )
            guard = recovering.keep_copy(guard, verdict.keep, params, state.inner_state)
            signals = signals._replace(restored=verdict.restore | verdict.repeat)
        elif recovery:
            verdict, guard = recovering.proceed(guard, nonfinite=nonfinite)
            signals = signals._replace(restored=verdict.repeat)
        averages, reach = state.averaging, state.window
        if average:
            averages, reach = window.absorb(
                reach,
                averages,
                params,
                live,
                healthy=verdict.healthy & ~nonfinite,
                reset=verdict.restart,
                restored=signals.restored,
                hold=nonfinite,
                every=averaging.EVERY,
                fraction=sketch,
            )

        # Controls.
        gains = state.lr_scale, state.momentum, state.sigma
        laws = state.lr_rule, state.momentum_rule, state.sigma_rule
        if fed:
            heard = sensing.by_reward(signals, sensor) if default_law else signals
            moves = {"jump": verdict.jump, "climb": verdict.climb}
            loops = (
                (rate, rule, laws[0], gains[0], 1.0, heard, rising, moves),
                (
                    mu,
                    momentum_rule,
                    laws[1],
                    gains[1],
                    start_momentum,
                    signals,
                    hold,
                    {},
                ),
                (dither, sigma_rule, laws[2], gains[2], sigma, signals, hold, {}),
            )
            gains, laws = zip(
                *(
                    control.drive(law, law_state, gain, start, seen, hold=held, **moves)
                    for control, law, law_state, gain, start, seen, held, moves in loops
                ),
                strict=True,
            )
        lr_scale, momentum_now, sigma_now = gains
        now = base(count)
        if schedule is not None and lr_bounds is not None:
            # A move that the bounds take from the rate is not made; what is, is kept.
            size = jnp.where(now > 0, now, 1.0)
            least = jnp.where(now > low, low / size, 0.0)
            most = jnp.where(now > 0, jnp.maximum(high / size, 1.0), jnp.inf)
            lr_scale = jnp.clip(
                lr_scale,
                jnp.minimum(least, state.lr_scale),
                jnp.maximum(most, state.lr_scale),
            ).astype(jnp.float32)
        alpha = now * lr_scale
        if schedule is None or lr_bounds is not None:
            alpha = _bounded(alpha, now, low, high)
        share = _anneal(count, total_steps)
        if recovery:
            share = share * recovering.warm_up(guard)
        alpha = alpha * share
        inner_rate, shadow_state = alpha, state.shadow
        if shadow:
            ratio, shadow_state = shadow.update(momentum_now, state.shadow)
            inner_rate = alpha * ratio

        # Filter: the inner optimizer under these gains.
        inner_state = state.inner_state
        if recovery:
            inner_state = recovering.good_inner(
                guard, state.recovery.restoring, inner_state
            )
        gains_now = injection.Gains(inner_rate, lr_scale * share, momentum_now)
        if value is not None:
            extra_args["value"] = value
        mask, frozen, fraction = None, state.freezing, state.frozen_fraction
        if freeze and layout:
            frozen = freezing.observe(frozen, norms.leaf_norms, freeze, layout)
            mask = freezing.mask_tree(frozen, grads)
            fraction = freezing.frozen_fraction(frozen, layout)
            steps, new_inner = holding.held_update(
                adapter,
                mask,
                holding.zero_frozen(grads, mask),
                inner_state,
                params,
                gains_now,
                **extra_args,
            )
        else:
            steps, new_inner = adapter.update(
                grads, inner_state, params, gains_now, **extra_args
            )
        taken = ~(nonfinite | verdict.restore | verdict.repeat)
        if freeze:
            steps = holding.zero_frozen(steps, mask)
        sound = _sound(params, steps)
        steps = jax.tree.map(
            lambda u, ok: jnp.where(taken & ok, u, jnp.zeros_like(u)), steps, sound
        )
        # Counted on the sketch: what is made entry by entry costs no pass of its own.
        looked_at = sketching.take(sound, sketching.fraction_of(sound, sketch), bool)
        spoilt = [jnp.any(~leaf) for leaf in jax.tree.leaves(looked_at)]
        nonfinite_steps = state.nonfinite_steps + (taken & sum(spoilt, False))

        # The way back, and dither, which no alignment is to see.
        if recovery:
            steps = recovering.go_back(state.recovery, guard, verdict, params, steps)
        sensor = sensing.record_step(sensor, steps, signals.restored, fraction=sketch)
        if dithers:
            steps = dithering.dither(
                params,
                steps,
                jnp.where(taken, sigma_now, 0.0),
                seed=seed,
                count=count,
                scale=dither_scale,
            )
            steps = steps if mask is None else holding.zero_frozen(steps, mask)
        readings = [getattr(signals, name) for name in READINGS]
        return steps, AdaptiveSchedulerState(
            learning_rate=alpha,
            momentum=momentum_now,
            sigma=sigma_now,
            lr_scale=lr_scale,
            sensor=sensor,
            readings=jnp.stack(readings),
            lr_rule=laws[0],
            momentum_rule=laws[1],
            sigma_rule=laws[2],
            shadow=shadow_state,
            freezing=frozen,
            frozen_fraction=fraction,
            nonfinite_steps=nonfinite_steps,
            recovery=guard,
            averaging=averages,
            window=reach,
            inner_state=new_inner,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _f32(x: Any) -> jax.Array:
    """A copy, so that a donated state shares no buffer with its arguments."""
    return jnp.array(x, jnp.float32)


def _sound(params: Any, steps: Any) -> Any:
    """Which entries of a step leave their parameter finite: another stays for good.

    A gradient may be finite and its step not: 0 / 0 where an epsilon is 0, a state that
    has overflowed. A parameter of 16 bits may also leave its range by a step that is.
    """

    def one(u: jax.Array, p: jax.Array) -> jax.Array:
        if p.dtype not in (jnp.float16, jnp.bfloat16):
            return jnp.isfinite(u)
        return jnp.isfinite(u) & (jnp.isfinite((p + u).astype(p.dtype)) | (u == 0))

    if params is None:
        return jax.tree.map(jnp.isfinite, steps)
    return jax.tree.map(one, steps, params)


def _bounded(rate: jax.Array, base: jax.Array, low: Any, high: Any) -> jax.Array:
    """Within the bounds, which a schedule's own value may leave but not the control."""
    clipped = jnp.clip(rate, jnp.minimum(low, base), jnp.maximum(high, base))
    return clipped.astype(jnp.float32)


def _freeze_config(threshold: Any, options: Mapping[str, Any] | None) -> Any:
    """The checked settings of freezing, or None where nothing is to freeze."""
    if threshold is None:
        if options:
            raise ValueError(
                f"`freeze_options`={dict(options)!r} say how to freeze, but nothing is "
                "to; add freeze_threshold=1e-4."
            )
        return None
    return freezing.freeze_config(threshold=threshold, **(options or {}))


def _anneal(count: jax.Array, total_steps: int | None) -> jax.Array | float:
    """1, then linearly to 0 over the last `ANNEAL` of a known horizon."""
    if total_steps is None:
        return 1.0
    left = (total_steps - count) / (ANNEAL * total_steps)
    return jnp.clip(left, 0.0, 1.0).astype(jnp.float32)


def _one_loss(value: Any, loss: Any) -> Any:
    if value is not None and loss is not None:
        raise ValueError(
            "`value` and `loss` are two names of one feedback, got both; call "
            "update(grads, state, params, value=loss)."
        )
    return loss if value is None else value


def _base_rate(
    inner: Any, learning_rate: Any, lr_bounds: tuple[float, float] | None
) -> Any:
    """The constant base rate, or 1 for a schedule and an unnamed built one."""
    example = "adaptive_scheduler(optax.adamw, learning_rate=3e-4)"
    if lr_bounds is not None:
        _checks.bounds(
            "lr_bounds", lr_bounds, 0.0, math.inf, example="lr_bounds=(1e-6, 1e-1)"
        )
        _checks.positive("lr_bounds[0]", lr_bounds[0], example="lr_bounds=(1e-6, 0.1)")
    if callable(learning_rate):
        first = learning_rate(jnp.zeros((), jnp.int32))
        _checks.within("learning_rate(0)", first, 0.0, example=SCHEDULED)
        return 1.0
    if learning_rate is None:
        if lr_bounds is not None:
            raise ValueError(
                f"`lr_bounds`={lr_bounds} needs the base rate of the built optimizer "
                "as well; try adaptive_scheduler(optax.sgd(0.01), learning_rate=0.01, "
                "lr_bounds=(1e-4, 0.1))."
            )
        if not isinstance(inner, optax.GradientTransformation):
            raise ValueError(
                f"a factory needs a base `learning_rate`, got None; try {example}."
            )
        return 1.0
    _checks.positive("learning_rate", learning_rate, example=example)
    if lr_bounds is not None:
        _checks.within("learning_rate", learning_rate, *lr_bounds, example=example)
    return learning_rate


def _check_options(
    *,
    mode: str | float,
    rules: dict[str, Rule | None],
    sigma: Any,
    mu_bounds: Any,
    sigma_bounds: Any,
    slew: Any,
    momentum_coordinate: str,
    dither_scale: Any,
    sketch: Any,
) -> bool:
    """Check what no part checks by itself; whether there will be dither."""
    if isinstance(mode, str):
        _checks.one_of("mode", mode, tuple(MODES), example='mode="search" or mode=6.0')
    else:
        _checks.evidence("mode", mode, example='mode="nudge" or mode=6.0')
    for name, rule in rules.items():
        if rule is not None and not isinstance(rule, Rule):
            raise TypeError(
                f"`{name}` must be a Rule, got {rule!r}; try {name}=rules.trend()."
            )
    _checks.bounds(
        "mu_bounds", mu_bounds, 0.0, 1.0, open_high=True, example="mu_bounds=(0, 0.999)"
    )
    _checks.bounds(
        "sigma_bounds", sigma_bounds, 0.0, math.inf, example="sigma_bounds=(0, 0.01)"
    )
    _checks.within("sigma", sigma, *sigma_bounds, example="sigma=1e-3")
    if not _checks.is_infinite(slew):
        _checks.positive("slew", slew, example="slew=0.1")
    _checks.one_of(
        "momentum_coordinate", momentum_coordinate, tuple(MOMENTUM_COORDINATES)
    )
    if not callable(dither_scale):
        _checks.one_of("dither_scale", dither_scale, dithering.SCALES)
    _checks.within("sketch", sketch, 0.0, 1.0, open_low=True, example="sketch=1/64")
    return (
        _checks.is_traced(sigma) or float(sigma) > 0 or rules["sigma_rule"] is not None
    )


def _check_horizon(total_steps: Any, schedule: Schedule | None, audited: bool) -> None:
    """A horizon that is no shorter than the audit, and is annealed once."""
    example = "total_steps=10_000"
    if _checks.is_traced(total_steps):
        raise TypeError(
            "`total_steps` must be known before anything is traced, got "
            f"{total_steps}; try {example}, outside of jit and vmap."
        )
    _checks.whole("total_steps", total_steps, 2, example=example)
    if audited and total_steps < recovering.AUDIT_STEPS:
        raise ValueError(
            f"`total_steps` must be at least {recovering.AUDIT_STEPS}, the steps of "
            f"the audit, got {total_steps}; try {example}, or recovery=False, "
            "which audits nothing."
        )
    if schedule is None:
        return
    with jax.ensure_compile_time_eval():
        steps = jnp.linspace(0, total_steps, 21).astype(jnp.int32)
        rates = [jnp.asarray(schedule(step)) for step in steps]
    if any(map(_checks.is_traced, rates)):
        return  # built from a traced rate: its numbers are not known yet
    peak, ends = max(map(float, rates)), float(rates[-1])
    if ends < 0.5 * peak:
        raise ValueError(
            "the schedule and `total_steps` would both lower the rate: the schedule "
            f"falls from {peak:g} to {ends:g} within {total_steps} steps; "
            "leave out total_steps, or give a schedule that only warms up, such as "
            f"{SCHEDULED}."
        )


def _check_dtype(dtype: Any, recovery: bool) -> None:
    if not recovery:
        raise ValueError(
            f"`recovery_dtype`={dtype!r} is of a copy that recovery=False does not "
            "keep; leave one of them out."
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"`recovery_dtype` must be a floating-point dtype, got {dtype!r}; try "
            "recovery_dtype=jnp.bfloat16."
        )
