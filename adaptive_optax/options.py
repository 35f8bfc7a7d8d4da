"""The options of `adaptive_scheduler`, checked before anything is traced."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax import _checks, _trees
from adaptive_optax._arguments import caller
from adaptive_optax._types import Rule, Schedule
from adaptive_optax.act import dither, injection, noise
from adaptive_optax.act.controls import HORIZON, LINEAR
from adaptive_optax.freeze.criterion import Freeze
from adaptive_optax.law import LAWS, Law
from adaptive_optax.rules import auto
from adaptive_optax.supervise.recovery import Recovery

SCHEDULED = "learning_rate=optax.warmup_constant_schedule(0.0, 3e-4, 1000)"

MODES = (*LAWS, "observe")

MOMENTUM_COORDINATES = {"horizon": HORIZON, "linear": LINEAR}


def base_rate_of(
    inner: Any, learning_rate: Any, lr_bounds: tuple[float, float] | None
) -> Any:
    """The constant base rate, or 1 for a schedule and an unnamed built one."""
    example = f"{caller()}(optax.adamw, learning_rate=3e-4)"
    is_number = isinstance(inner, int | float) or _trees.is_array(inner)
    first = learning_rate(jnp.zeros((), jnp.int32)) if callable(learning_rate) else None
    if is_number or injection.is_built(learning_rate) or injection.is_built(first):
        raise TypeError(
            f"the optimizer comes first, then the rate: got inner={_short(inner)}, "
            f"learning_rate={_short(learning_rate)}; try {example}."
        )
    if lr_bounds is not None:
        _checks.bounds(
            "lr_bounds", lr_bounds, 0.0, math.inf, example="lr_bounds=(1e-6, 1e-1)"
        )
        _checks.positive("lr_bounds[0]", lr_bounds[0], example="lr_bounds=(1e-6, 0.1)")
    if callable(learning_rate):
        _checks.within("learning_rate(0)", first, 0.0, example=SCHEDULED)
        return 1.0
    if learning_rate is None:
        if lr_bounds is not None:
            raise ValueError(
                f"`lr_bounds`={lr_bounds} needs the base rate of the built optimizer "
                f"as well; try {caller()}(optax.sgd(0.01), learning_rate=0.01, "
                "lr_bounds=(1e-4, 0.1))."
            )
        if not injection.is_built(inner):
            raise ValueError(
                f"a factory needs a base `learning_rate`, got None; try {example}."
            )
        return 1.0
    _checks.positive("learning_rate", learning_rate, example=example)
    if lr_bounds is not None:
        _checks.within("learning_rate", learning_rate, *lr_bounds, example=example)
    return learning_rate


def check_mode(mode: Any) -> None:
    """Require a known mode, or a number of standard errors, at least 0."""
    if isinstance(mode, str):
        _checks.one_of("mode", mode, MODES, example='mode="search" or mode=6.0')
    else:
        _checks.evidence("mode", mode, example='mode="nudge" or mode=6.0')


def check_options(
    *,
    mode: str | float,
    rules: dict[str, Rule | str | None],
    sigma: Any,
    mu_bounds: Any,
    sigma_bounds: Any,
    slew: Any,
    momentum_coordinate: str,
    dither_scale: Any,
    dither_distribution: str,
    sketch: Any,
) -> bool:
    """Check the options that no part checks itself. Returns whether there is dither."""
    check_mode(mode)
    for name, rule in rules.items():
        auto.check(name, rule)
    if rules["momentum_rule"] == "auto" and momentum_coordinate != "horizon":
        raise ValueError(
            '`momentum_rule="auto"` moves the horizon, got momentum_coordinate='
            f"{momentum_coordinate!r}; leave that out, or give a rule."
        )
    _checks.bounds(
        "mu_bounds", mu_bounds, 0.0, 1.0, open_high=True, example="mu_bounds=(0, 0.999)"
    )
    _checks.bounds(
        "sigma_bounds", sigma_bounds, 0.0, math.inf, example="sigma_bounds=(0, 0.01)"
    )
    _checks.within("sigma", sigma, *sigma_bounds, example="sigma=1e-3")
    _checks.positive("slew", slew, example="slew=0.1", or_inf=True)
    _checks.one_of(
        "momentum_coordinate", momentum_coordinate, tuple(MOMENTUM_COORDINATES)
    )
    if not callable(dither_scale):
        _checks.one_of("dither_scale", dither_scale, dither.SCALES)
    _checks.one_of("dither_distribution", dither_distribution, noise.DISTRIBUTIONS)
    _checks.static("sketch", sketch, example="sketch=1/64")
    _checks.within("sketch", sketch, 0.0, 1.0, open_low=True, example="sketch=1/64")
    # An array may be traced at the next call (`optax.inject_hyperparams`), and the
    # state must not depend on that.
    unknown = isinstance(sigma, jax.Array)
    return unknown or float(sigma) > 0 or rules["sigma_rule"] is not None


def check_horizon(
    total_steps: Any, schedule: Schedule | None, law: Law, *, audited: bool
) -> None:
    """Check that the horizon covers the audit and the rate is annealed only once."""
    example = "total_steps=10_000"
    _checks.static("total_steps", total_steps, example=example)
    _checks.whole("total_steps", total_steps, 2, example=example)
    steps = law.audit.steps if audited and law.audit else 0
    if not _checks.is_traced(steps) and total_steps < steps:
        raise ValueError(
            f"`total_steps` must be at least {steps}, the steps of "
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


def recovery_of(recovery: Any, law: Law) -> Recovery | None:
    """The checked settings of the copy, or None if there is nothing to go back for."""
    if isinstance(recovery, Recovery):
        recovery.checked()
    elif not isinstance(recovery, bool | np.bool_):
        raise TypeError(
            f"`recovery` must be True, False or a Recovery, got {recovery!r}; try "
            "recovery=ao.Recovery(dtype=jnp.bfloat16)."
        )
    if not recovery or not any((law.audit, law.skip, law.trial)):
        return None
    return recovery if isinstance(recovery, Recovery) else Recovery()


def freeze_of(threshold: Any, freeze: Freeze | None, ema_decay: float) -> Freeze | None:
    """The checked settings of freezing, or None if nothing freezes."""
    if threshold is not None:
        if freeze is not None:
            raise ValueError(
                f"`freeze_threshold`={threshold} is short for freeze=ao.Freeze("
                f"{threshold}), got `freeze` as well; give one of them."
            )
        return Freeze(threshold, ema_decay).checked()
    if freeze is None:
        return None
    if not isinstance(freeze, Freeze):
        raise TypeError(
            f"`freeze` must be a Freeze, got {freeze!r}; try freeze=ao.Freeze(1e-4)."
        )
    return freeze.checked()


def axes_of(axis_name: Any, check_replicas: Any) -> tuple[str, ...] | None:
    """The names in a tuple, or None if nothing is said of axes."""
    example = 'axis_name="data"'
    names = (axis_name,) if isinstance(axis_name, str) else axis_name
    listed = isinstance(names, tuple | list)
    if names is not None and not (listed and all(isinstance(n, str) for n in names)):
        raise TypeError(
            "`axis_name` must be the name of a mapped axis or a tuple of names, got "
            f"{axis_name!r}; try {example}."
        )
    if check_replicas is not None:
        _checks.whole("check_replicas", check_replicas, 1, example="check_replicas=100")
        if not names:
            raise ValueError(
                f"`check_replicas`={check_replicas} compares the devices of an axis, "
                f"got axis_name={axis_name!r}; try {example}, inside jax.shard_map."
            )
    return None if names is None else tuple(names)


def law_of(mode: str | float, law: Law | None, ema_decay: float | None) -> Law:
    """The law that ``mode`` names, or the one that is given, with this decay.

    Raises:
      TypeError: If ``law`` is no `Law`, or a part of it has the wrong type.
      ValueError: If both ``mode`` and ``law`` are given, or a count is below 1.
    """
    if ema_decay is not None:
        _checks.decay("ema_decay", ema_decay, example="ema_decay=0.9")
        return law_of(mode, law, None)._replace(ema_decay=ema_decay)
    if law is None:
        return LAWS.get(mode, Law()) if isinstance(mode, str) else Law(trust=mode)
    if not isinstance(law, Law):
        raise TypeError(f"`law` must be a Law, got {law!r}; try law=ao.Law(skip=None).")
    if mode not in ("nudge", "observe"):
        raise ValueError(
            f"`mode`={mode!r} and `law` both say how far the base rate is believed; "
            "give one of them, such as law=ao.Law(trust=3.0)."
        )
    _checks.evidence("law.trust", law.trust, example="ao.Law(trust=6.0)")
    for name, part in Law()._asdict().items():
        given = getattr(law, name)
        if isinstance(part, tuple) and not (
            given is None or isinstance(given, type(part))
        ):
            raise TypeError(
                f"`law.{name}` must be a {type(part).__name__}, or None to switch it "
                f"off, got {given!r}; try ao.Law({name}=None)."
            )
    _checks.within("law.half", law.half, 0.0, 1.0, open_low=True, example="ao.Law()")
    _checks.decay("law.ema_decay", law.ema_decay, example="ao.Law(ema_decay=0.9)")
    _checks.within("law.cut", law.cut, high=0.0, example="ao.Law(cut=math.log(0.2))")
    if law.large is not None:
        _checks.number("law.large", law.large, example="ao.Law(large=1.0)")
    for name in ("clear", "hint"):
        _checks.positive(f"law.{name}", getattr(law, name), example="ao.Law()")
    counts = {"warmup_steps": law.warmup_steps, "readings": law.readings}
    if law.audit is not None:
        counts["audit.steps"] = law.audit.steps
    if law.average is not None:
        counts["average.every"] = law.average.every
    for name, count in counts.items():
        _checks.within(
            f"law.{name}", count, 1, _trees.LARGEST_COUNT, example="ao.Law()"
        )
    return law


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:56]} ..."
