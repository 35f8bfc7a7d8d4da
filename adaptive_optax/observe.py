"""``mode="observe"``: the law watches the plain optimizer, and moves nothing.

Everything that acts is replaced by a stage that does not. What the law would have done
is told by the events, and by ``lr_scale``, the multiplier that it would have set. The
run does not follow this multiplier, so the loop is open, and a law that integrates
would run away. Here it may go no further than the law goes beyond a rate at which the
loss is known to fall: it stays between 1/2 and 2 (`law.Search.reach`). So it says
"higher" or "lower", not how much.

A would-be restore puts nothing back. So the experiment that asks whose fault it was is
not made, and its answers are not told.
"""

import math
from typing import Any

import jax.numpy as jnp

from adaptive_optax._reasons import EventKind
from adaptive_optax.act import stage as acting
from adaptive_optax.act.base_rate import BaseRate
from adaptive_optax.act.injection import Inner
from adaptive_optax.law import Law, Search
from adaptive_optax.stages import Stages
from adaptive_optax.supervise.stage import Supervision


def watches(mode: Any, **acts: Any) -> bool:
    """Whether this is the mode that only watches.

    Args:
      mode: Of `adaptive_scheduler`.
      **acts: Options that would act on the run, which it therefore refuses.

    Raises:
      ValueError: If it is, and one of them is more than None or 0.
    """
    if not (isinstance(mode, str) and mode == "observe"):
        return False
    for name, given in acts.items():
        if given is not None and not (isinstance(given, int | float) and given == 0):
            raise ValueError(
                f"mode='observe' trains the plain optimizer, but `{name}`={given!r} "
                "would act on it; leave it out, or try mode='nudge'."
            )
    return True


def observing(parts: Stages, law: Law) -> Stages:
    """The same stages, of which none acts."""
    reach = (law.search or Search()).reach
    control = parts.rate.control._replace(low=math.exp(-reach), high=math.exp(reach))
    return parts._replace(
        rate=parts.rate._replace(control=control),
        supervision=_judging_only(parts.supervision),
        acting=acting.idle(),
        inner=_plain(parts.inner, parts.base, parts.momentum.start),
        observes=True,
    )


def _plain(inner: Inner, base: BaseRate, momentum: Any) -> Inner:
    """The optimizer, called with the numbers that the user gave.

    As float32 arrays they would round bfloat16 parameters in another way.
    """
    if base.schedule is not None:
        return inner

    def update(grads, state, params, gains, /, **extra):
        given = gains._replace(learning_rate=base.number, momentum=momentum)
        return inner.update(grads, state, params, given, **extra)

    return inner._replace(update=update)


def _judging_only(supervision: Supervision) -> Supervision:
    """A supervisor that judges and keeps its copy, but changes nothing."""

    def update(seen, state, **rest):
        verdict, known, after = supervision.update(seen, state, **rest)
        kind = verdict.reason.kind
        answered = (kind >= EventKind.START_FAILED) & (kind <= EventKind.ACQUITTED)
        no = jnp.zeros((), bool)
        return (
            verdict._replace(
                restore=no,
                repeat=no,
                restart=no,
                correction=jnp.zeros((), jnp.float32),
                reason=verdict.reason.unless(answered),
            ),
            known,
            after,
        )

    return supervision._replace(
        update=update,
        share=lambda state: 1.0,
        inner=lambda before, after, params, inner_state: inner_state,
        finish=lambda before, after, verdict, params, steps: steps,
    )
