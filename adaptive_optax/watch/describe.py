"""The loop in words, from a transformation: what is on, within which bounds."""

import functools
import math
from collections.abc import Iterable
from typing import Any

import jax

from adaptive_optax import _checks
from adaptive_optax.act.base_rate import ANNEAL
from adaptive_optax.law import LAWS, Law
from adaptive_optax.scale.memory import state_bytes
from adaptive_optax.sense.estimators import slower
from adaptive_optax.stages import Stages
from adaptive_optax.watch.words import number

MODES = {float(law.trust): mode for mode, law in LAWS.items()}


def describe(tx: Any, params: Any = None) -> str:
    """What a transformation of `adaptive_scheduler` will do, in words.

    Args:
      tx: The transformation itself, or a ready-made one such as `adaptive_adamw`. A
        chain keeps no trace of what it is made of: describe the part.
      params: The parameters, or their `jax.ShapeDtypeStruct`s, to tell the memory as
        well; nothing is allocated.

    Returns:
      Lines of text.

    Raises:
      TypeError: If it is another transformation.

    Example:
      >>> import optax
      >>> import adaptive_optax as ao
      >>> tx = ao.adaptive_scheduler(optax.adamw, learning_rate=3e-4, average=False)
      >>> print(ao.describe(tx).splitlines()[0])
      adamw (a factory, called with the rate of each step) under adaptive_scheduler

    References:
      docs/choosing.md: what each of these is for.
    """
    parts = getattr(getattr(tx, "update", None), "stages", None)
    if not isinstance(parts, Stages):
        raise TypeError(
            f"`tx` must be what adaptive_scheduler made, got {_short(tx)}; of a chain "
            "describe the part: loop = ao.adaptive_scheduler(optax.adamw, 3e-4); "
            "ao.describe(loop); tx = optax.chain(optax.clip(1.0), loop)."
        )
    lines = [
        *_rate(parts),
        *_others(parts),
        *_judges(parts),
        *_copies(parts),
        *(_memory(tx, params) if params is not None else ()),
    ]
    return "\n".join(lines)


def _rate(parts: Stages) -> Iterable[str]:
    inner, base = parts.about.inner, parts.base
    made = parts.inner.make is not None
    how = "built: its output is scaled by the rate over the base rate"
    how = "a factory, called with the rate of each step" if made else how
    yield f"{_name(inner)} ({how}) under adaptive_scheduler"
    if parts.observes:
        yield (
            "observe: the law only watches, and tells what it would do; training is "
            "the plain optimizer's."
        )
    if base.schedule is not None:
        yield "base rate: a schedule, which the loop multiplies."
    else:
        yield (
            f"base rate: {_value(base.number)}, the rate stays within "
            f"{_value(base.low)} and {_value(base.high)}."
        )
    if base.total_steps is not None:
        share = f"{ANNEAL:.0%} of {base.total_steps} steps"
        yield f"planned end: the rate goes to 0 over the last {share}."
    law = parts.about.law
    if parts.about.rule is not None:
        yield "rule of the rate: one of your own."
        return
    if _checks.is_infinite(law.trust):
        yield "rule of the rate: safe, it is lowered only where it proves too high."
        return
    traced = _checks.is_traced(law.trust)
    named = None if traced else MODES.get(float(law.trust))
    trust = f"{_value(law.trust)} standard errors"
    trust += f' (as mode="{named}")' if named else ""
    on = [name for name in ("search", "nudge", "settle") if getattr(law, name)]
    yield (
        f"rule of the rate: {', then '.join(on) or 'none'}; the rate leaves the base "
        f"rate where the evidence is {trust}."
    )


def _others(parts: Stages) -> Iterable[str]:
    low, high = parts.momentum.control.low, parts.momentum.control.high
    if parts.momentum.rule is not None:
        yield (
            f"momentum: from {_value(parts.momentum.start)}, moved by a rule within "
            f"{_value(low)} and {_value(high)}."
        )
    else:
        yield "momentum: held."
    if parts.sigma.rule is not None:
        yield f"dither: from sigma {_value(parts.sigma.start)}, moved by a rule."
    freeze = parts.about.freeze
    if freeze is None:
        yield "freezing: off."
    else:
        yield (
            f"freezing: layers freeze while their gradient norm is below "
            f"{_value(freeze.threshold)} ({freeze.relative_to}), after "
            f"{freeze.warmup} steps; every {freeze.probe_every} steps a probe measures "
            "the norm of the frozen ones."
        )


def _judges(parts: Stages) -> Iterable[str]:
    law: Law = parts.about.law
    if parts.about.recovery is None:
        yield "recovery: off, so no start is audited and nothing is skipped or undone."
        return
    if law.audit is None:
        yield "start: not audited."
    else:
        yield (
            f"start: the rate rises over {_value(law.warmup_steps)} good steps; "
            f"the first {_value(law.audit.steps)} are checked, and a start that fails "
            "is thrown away and tried again at a fifth of the rate."
        )
    if law.skip is not None:
        yield (
            "batches: those whose loss or gradient is far outside the run's noise are "
            f"skipped, at most {_value(law.skip.least)} and a share of "
            f"{_value(law.skip.share)} of the steps."
        )
    else:
        yield "batches: none is skipped but those that are not finite."
    if law.trial is not None:
        yield (
            f"divergence: after {_value(law.trial.patience)} bad batches in a row the "
            "last good parameters come back; if that helps, and not for the first "
            "time, the rate is cut."
        )


def _copies(parts: Stages) -> Iterable[str]:
    copies = parts.about.recovery
    if copies is not None:
        kept = "parameters and optimizer state" if copies.inner else "parameters"
        dtype = f" in {jax.numpy.dtype(copies.dtype)}" if copies.dtype else ""
        yield f"copy: the last good {kept}{dtype}, in {copies.memory} memory."
    averages = parts.kept["averaging"]
    yield (
        "average: kept for eval_params, over about the last ninth of the run."
        if averages
        else "average: off, eval_params gives the parameters themselves."
    )
    if parts.axes:
        yield f"replicas: averaged over {', '.join(parts.axes)}."
    law = parts.about.law
    if law.large is not None:
        yield (
            "agreement: each gradient counts by its norm, up to "
            f"{_value(law.large)} deviations above the usual (law.large)."
        )
    decay = law.ema_decay
    fast, slow = (number(1 / (1 - d)) for d in (decay, slower(decay)))
    yield f"means of the loss: over {fast} steps, and over {slow} (ema_decay={decay})."
    share = f"1/{1 / parts.fraction:.3g}" if parts.fraction < 1 else "all"
    yield f"sketch: {share} of the parameters are read to compare gradients with steps."


def _memory(tx: Any, params: Any) -> Iterable[str]:
    size = max(1, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)))
    cost = state_bytes(tx, params)
    told = [f"{part} {number(cost[part] / size)}" for part in cost if cost[part]]
    yield f"memory in bytes a parameter: {', '.join(told)}."


def _name(inner: Any) -> str:
    while isinstance(inner, functools.partial):
        inner = inner.func
    return getattr(inner, "__name__", "an optimizer")


def _value(x: Any) -> str:
    """A number, or that it is traced."""
    return "a traced number" if _checks.is_traced(x) else number(float(x))


def _short(tx: Any) -> str:
    text = repr(tx)
    return text if len(text) < 60 else f"{text[:56]} ..."
