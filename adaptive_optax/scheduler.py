"""`adaptive_scheduler`: its options, checked and made into the stages of the loop."""

import math
from typing import Any

import jax
import optax

from adaptive_optax import _checks, loop, observe, options
from adaptive_optax._types import Rule, Schedule
from adaptive_optax.act import base_rate, restart
from adaptive_optax.act import stage as acting
from adaptive_optax.act.controls import LOG, Control
from adaptive_optax.act.gains import Driven, adapted
from adaptive_optax.agreement import compared, uncompared
from adaptive_optax.freeze.criterion import Freeze
from adaptive_optax.freeze.stage import freezes, never
from adaptive_optax.law import Law
from adaptive_optax.rules import auto
from adaptive_optax.rules.search import prior
from adaptive_optax.stages import About, Stages, kept
from adaptive_optax.supervise.recovery import Recovery
from adaptive_optax.supervise.stage import supervised, unsupervised


def adaptive_scheduler(
    inner: Any,
    learning_rate: float | jax.Array | Schedule | None = None,
    *,
    momentum: float | jax.Array | None = None,
    sigma: float | None = None,
    mode: str | float = "nudge",
    law: Law | None = None,
    rule: Rule | None = None,
    momentum_rule: Rule | str | None = None,
    sigma_rule: Rule | str | None = None,
    lr_bounds: tuple[float, float] | None = None,
    mu_bounds: tuple[float, float] = (0.0, 0.999),
    sigma_bounds: tuple[float, float] = (0.0, 1e-2),
    slew: float = math.inf,
    momentum_coordinate: str = "horizon",
    learning_rate_arg: str | None = None,
    momentum_arg: str | None = None,
    total_steps: int | None = None,
    average: bool = True,
    recovery: bool | Recovery = True,
    freeze_threshold: float | None = None,
    freeze: Freeze | None = None,
    ema_decay: float | None = None,
    dither_scale: Any = "param_rms",
    dither_distribution: str = "gaussian",
    seed: int = 0,
    sketch: float | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    check_replicas: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wrap any Optax optimizer so that its training regulates itself.

    With l the loss, v its noise, r a reward, and f the rules' answers::

        h'     = Phi(h, g; mu)        u = U(h', g; alpha)
        theta' = theta - u + sigma D(theta) eta
        alpha' = clip(alpha exp(f_alpha))    sigma' = clip(sigma exp(f_sigma))
        mu'    = clip(1 - (1 - mu) exp(-f_mu))

    Pass the loss: ``tx.update(grads, state, params, value=loss)``. In a step without
    ``value`` or ``reward`` every gain holds. In a run without them the wrapper changes
    nothing.

    By default the rate rises to ``learning_rate`` over 20 steps and is audited for 60
    (`supervise.start_audit`), then moves only on evidence (docs/law.md). Once there has
    been a reward, it is judged instead of the loss, which is then a surrogate.
    Parameters are averaged for evaluation: `eval_params`.

    Args:
      inner: A factory such as `optax.adamw` or `functools.partial(optax.adamw,
        weight_decay=0.1)`, called with this step's gains; or a built transformation,
        whose updates are scaled by alpha over the base rate. Prefer the factory: for
        optimizers whose state depends on the learning rate (lars, rmsprop with
        momentum, rprop, fromage, adafactor with weight decay, schedule_free, dog),
        scaling the output is not the same, and a built one does not show it.
      learning_rate: Base rate, > 0, or an Optax schedule, which the controller
        multiplies; while it rises the multiplier holds. Required for a factory; for a
        built transformation it only says what its rate is (default 1).
      momentum: Momentum in [0, 1) to set at every step; None leaves the factory's own.
      sigma: Standard deviation of the dither, relative to D, >= 0; None or 0 draws no
        noise. It goes to 0 with the rate over the end of ``total_steps``, and is 0
        where a schedule is 0.
      mode: How far the base rate is believed: ``"nudge"`` treats it as sound,
        ``"search"`` as a guess; ``"safe"`` only lowers it, after a divergence or a bad
        start, and may take the latter back. Or the number behind them, `Law.trust` >= 0
        in standard errors: 6, 3 and infinity. ``"observe"`` trains the plain optimizer,
        and tells what ``"nudge"`` would do (`observe`, `explain`).
      law: All numbers of the default law; a part that is None is off. Not with a mode.
      rule: Control law of the rate, in place of the mode's; see `rules` and `blend`.
        The audit of the start still follows the mode.
      momentum_rule: Control law of the momentum; None holds it, ``"auto"`` is
        `rules.momentum()`.
      sigma_rule: Control law of sigma; None is `rules.success()` where sigma > 0.
        ``"auto"`` is `rules.kick()`: sigma is 0 but in single steps on a plateau, in
        which it is ``sigma``, or the upper bound where that is 0 or None.
      lr_bounds: (low, high) for the rate, 0 < low <= high; by default the base rate
        over and times 1e6. A schedule's own value is never clipped, only its product
        with the multiplier. The warm-up and `total_steps` may take the rate below.
      mu_bounds: (low, high) for the momentum, within [0, 1).
      sigma_bounds: (low, high) for sigma, >= 0.
      slew: Largest change of any gain's coordinate in one step, > 0.
      momentum_coordinate: ``"horizon"`` moves log 1/(1 - mu); ``"linear"`` moves mu.
      learning_rate_arg: The factory's name for ``learning_rate``, where it has another.
      momentum_arg: Its name for the momentum, likewise.
      total_steps: Length of the run if it is known, at least the 60 steps of the audit
        (>= 2 without ``recovery``): the control then holds over the last 30 % of it and
        the rate goes to 0 linearly. Not with a schedule that itself decays within it.
      average: Keep the polynomial average for `eval_params` (one copy of the
        parameters, float32 at least).
      recovery: Watch for divergence and go back to a last good copy (one copy of the
        parameters and of the inner state). A `Recovery` makes the copy smaller or keeps
        it in host memory.
      freeze_threshold: L2 gradient norm of a leaf below which it freezes, >= 0; None
        never freezes. See `freeze_by_grad_norm`. The time of the optimizer falls with
        the frozen share; `frozen_value_and_grad` saves that of the backward pass.
      freeze: The same with more settings, such as
        ``ao.Freeze(0.1, relative_to="initial", groups=block_labels(params))``.
      ema_decay: d in (0, 1) of the fast means, over 1/(1 - d) steps: of the loss, and
        of the norms that ``freeze_threshold`` asks for (a `Freeze` has its own). Slow
        ones, of loss and log norm, go over 5/(1 - d). None is `Law.ema_decay`, 0.9.
      dither_scale: D of the dither: ``"param_rms"``, ``"update_rms"``,
        ``"isotropic"`` or a callable. See `add_dither`.
      dither_distribution: ``"gaussian"`` or ``"rademacher"``, ±1, which costs less.
      seed: Of the dither's noise.
      sketch: Share of the coordinates kept to measure alignment, heading and the
        average's lag, in (0, 1], 1/64 by default; 1 is exact. At least 1,024 are kept
        in all, so small models are measured exactly.
      axis_name: For `jax.shard_map` and `jax.pmap`: the axis, or axes, over which loss,
        reward and gradients are averaged before they are read (`sense.replicas`). With
        ``check_vma=True`` JAX has by then *summed* the gradients of replicated
        parameters: take `jax.lax.pmean` in the loss (docs/howto/meshes.md). () says
        that all are reduced, or that each device trains by itself.
      check_replicas: Compare the devices of ``axis_name`` at every so many steps
        (`agreement`), >= 1; None never does.

    Returns:
      A transformation whose ``update`` takes ``value`` (or ``loss``) and ``reward``,
      scalars below 1e37 in size, and passes all extra arguments on to the inner
      optimizer. Updates have the gradients' dtypes; every controller scalar is float32.

      A step whose gradient is not finite, or (with ``recovery``) whose loss is far
      outside the run's noise, is counted and not taken: the update is zero, the gains
      and the inner optimizer's state hold. See `supervise.skip` and `supervise.trial`.
      A loss or reward that is not finite beside a finite gradient is no reading: the
      step is taken, and nothing is judged. Entries of the inner optimizer's own step
      that are not finite are 0. With ``recovery`` differentiate through it in
      forward mode only where no divergence is expected.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a number lies outside its domain, a mode or scale is unknown, or a
        gain cannot be set; in ``update``, if a feedback is not a scalar or the
        parameters that a part needs are missing.

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
    sketch = 1 / 64 if sketch is None else sketch
    sigma = 0.0 if sigma is None else sigma
    number = options.base_rate_of(inner, learning_rate, lr_bounds)
    base = base_rate.base_of(number, learning_rate, lr_bounds, total_steps)
    dithers = options.check_options(
        mode=mode,
        rules=dict(rule=rule, momentum_rule=momentum_rule, sigma_rule=sigma_rule),
        sigma=sigma,
        mu_bounds=mu_bounds,
        sigma_bounds=sigma_bounds,
        slew=slew,
        momentum_coordinate=momentum_coordinate,
        dither_scale=dither_scale,
        dither_distribution=dither_distribution,
        sketch=sketch,
    )
    law = options.law_of(mode, law, ema_decay)
    watched = observe.watches(
        mode,
        sigma=sigma,
        momentum_rule=momentum_rule,
        sigma_rule=sigma_rule,
        freeze=freeze_threshold if freeze is None else freeze,
        total_steps=total_steps,
    )
    momentum_rule = auto.momentum_rule_of(momentum_rule, law)
    sigma_rule, sigma, sigma_bounds = auto.sigma_of(
        sigma_rule, sigma, sigma_bounds, law, dithers
    )
    averages = average and law.average is not None
    copies = options.recovery_of(recovery, law)
    if total_steps is not None:
        audited = copies is not None
        options.check_horizon(total_steps, base.schedule, law, audited=audited)
    freeze = options.freeze_of(freeze_threshold, freeze, law.ema_decay)
    axes = options.axes_of(axis_name, check_replicas)
    adapter, start_momentum = adapted(
        inner,
        base.number,
        momentum,
        momentum_rule,
        mu_bounds,
        learning_rate_arg=learning_rate_arg,
        momentum_arg=momentum_arg,
    )
    if not isinstance(seed, jax.Array):
        _checks.whole("seed", seed, example="seed=0")
    about = About(inner, law, copies, freeze, rule)
    rule = rule or prior(law, adapter.memory if momentum is None else momentum)
    coordinate = options.MOMENTUM_COORDINATES[momentum_coordinate]
    parts = Stages(
        base=base,
        rate=Driven(Control(LOG, *base.scales(), slew), rule, 1.0),
        momentum=Driven(
            Control(coordinate, *mu_bounds, slew), momentum_rule, start_momentum
        ),
        sigma=Driven(Control(LOG, *sigma_bounds, slew), sigma_rule, sigma),
        supervision=(
            supervised(law, copies, adapter.init) if copies else unsupervised()
        ),
        averaging=(acting.averaged(law, sketch) if averages else acting.unaveraged()),
        freezing=freezes(freeze) if freeze else never(),
        shadow=acting.shadow_of(momentum_rule, inner, adapter, start_momentum),
        dither=acting.noise(dithers, seed, dither_scale, dither_distribution),
        inner=restart.restarting(adapter, momentum_rule),
        needs_params=averages or bool(copies) or dithers,
        kept=kept(averages, copies, freeze),
        fraction=sketch,
        axes=axes,
        agreement=compared(axes, check_replicas) if check_replicas else uncompared(),
        acting=acting.active(),
        about=about,
    )
    return loop.transformation(observe.observing(parts, law) if watched else parts)
