"""Every number of the default law of the learning rate, with its unit and its reason.

A `Law` is a value: print it, `_replace` a number, set a part to None to switch it off::

    adaptive_scheduler(optax.adam, 1e-3, law=Law(skip=None))
    adaptive_scheduler(optax.adam, 1e-3, law=Law(skip=Skip(noises=8.0)))

docs/law.md has the equations. Units: a *step* is one update; a *loss* is one step with
a loss; *errors* are standard errors of the average that is judged; *noises* are
standard deviations of one loss; a *log distance* is a difference of log learning rates.
Numbers may be traced scalars, to study many laws in one program.

Evidence is weighed on one scale. `Law.trust` errors move the rate away from what was
given, `Law.clear` errors are a clear sign, and `Law.hint` errors are a hint, which is
enough to wait, to settle, or to go back.
"""

import math
from typing import Any, NamedTuple

Number = Any
"""A Python number, or a scalar array."""


class Audit(NamedTuple):
    """The audit of the start (`supervise.start_audit`)."""

    steps: Number = 60  # good steps of a first audit: three times the warm-up
    max_failures: Number = 12  # cuts to a fifth: 12 repair a rate 2e8 times too high
    opposed: Number = 1 / 4  # share of the trust, in errors of an opposition


class Skip(NamedTuple):
    """Batches that are not learnt from (`supervise.skip`)."""

    noises: Number = 6.0  # above what is allowed without noise
    share: Number = 0.05  # of the run that may be skipped in the long run
    least: Number = 10.0  # batches that may be skipped at any age
    most: Number = 100.0  # batches that may be skipped at once at most


class Trial(NamedTuple):
    """Is the rate at fault? The experiment that tells (`supervise.trial`)."""

    patience: Number = 5  # batches in a row not learnt from before it begins
    start_patience: Number = 2  # bad batches minus others in the audit
    most: Number = 3  # cuts in a row; if they did not help, all are taken back
    repay: Number = 4.0  # power with which a cut is repaid: t^4


class Search(NamedTuple):
    """The climb on very strong evidence (`rules.search`)."""

    rate: Number = 0.06  # log distance a climbing step
    early_rate: Number = 0.18  # the same while the loss has not moved
    reach: Number = 0.7  # log distance: twofold beyond what is proven


class Nudge(NamedTuple):
    """Small moves on agreement and opposition (`rules.alignment`)."""

    rate: Number = 0.02  # log distance a step, at most
    power: Number | None = None  # of a rise t^power while that is faster; None: never


class Settle(NamedTuple):
    """The decay while the loss is level (`rules.settle`)."""

    power: Number = 1.5  # of the decay t^-power


class Average(NamedTuple):
    """The evaluation average (`act.average`, `act.averaging_horizon`)."""

    power: Number = 8.0  # of the polynomial weights: about the last ninth
    every: int = 2  # steps between two absorptions
    shrink: Number = 0.05  # share of the horizon that a full vote takes off in a step


class Law(NamedTuple):
    """The default law: shared numbers, and its parts; None switches a part off.

    Example:
      >>> import adaptive_optax as ao, optax
      >>> law = ao.Law(skip=None, nudge=ao.law.Nudge(rate=0.01))
      >>> tx = ao.adaptive_scheduler(optax.adam, 1e-3, law=law)
    """

    trust: Number = 6.0  # errors that a climb needs: trust in the base rate
    clear: Number = 2.0  # errors of a clear sign, and at which a vote counts in full
    hint: Number = 1.0  # errors of a hint
    margin: Number = 0.02  # cosines this small are taken for 0
    readings: Number = 8  # cosines, or changes of a loss, seen before they are judged
    little: Number = 0.1  # of a first loss: unmoved. Of a first gradient: dead
    half: Number = 0.5  # of a loss: much. Of trust and votes: a nudge. Of a rate: back
    cut: Number = math.log(0.2)  # log distance of a failed start, and of a first cut
    warmup_steps: Number = 20  # of every start; 1: at once. Also between two copies
    level_after: Number = 31  # losses before a level can be judged
    lately: Number = 0.2  # share of the run's age that counts as a short while
    ema_decay: float = 0.9  # fast means: over 10 steps; slow ones: over 50
    large: Number | None = None  # deviations; smaller gradients count by their size
    audit: Audit | None = Audit()
    skip: Skip | None = Skip()
    trial: Trial | None = Trial()
    search: Search | None = Search()
    nudge: Nudge | None = Nudge()
    settle: Settle | None = Settle()
    average: Average | None = Average()


def checked(law: Any) -> Law:
    """The law, if it is one.

    Raises:
      TypeError: If it is something else; a part of a law shows where it belongs.
    """
    if isinstance(law, Law):
        return law
    part = type(law).__name__
    parts = [type(one).__name__ for one in Law() if isinstance(one, tuple)]
    call = f"Law({part.lower()}={law!r})" if part in parts else "Law(trust=3.0)"
    raise TypeError(f"`law` must be a Law, got {law!r}; try {call}.")


LAWS = {
    "nudge": Law(),
    "search": Law(trust=3.0),
    "safe": Law(trust=math.inf),
}
"""The laws that have a name: ``mode`` of `adaptive_scheduler`."""
