"""Every number of the default law of the learning rate, with its unit and its reason.

A `Law` is a value: print it, `_replace` a number, set a part to None to switch it off::

    adaptive_scheduler(optax.adam, 1e-3, law=Law(retry=None))
    adaptive_scheduler(optax.adam, 1e-3, law=Law(guard=Guard(noises=8.0)))

docs/law.md has the equations. Units: a *step* is one update, a *loss* one step with a
loss; *errors* are standard errors of the average that is judged, *noises* standard
deviations of one loss; a *log distance* is a difference of log learning rates. Numbers
may be traced scalars, to study many laws in one program.
"""

import math
from typing import Any, NamedTuple

Number = Any
"""A Python number, or a scalar array."""


class Audit(NamedTuple):
    """The start on probation (`supervise.audit`)."""

    steps: Number = 60  # good steps of a first audit: three times the warm-up
    again: Number = 20  # good steps after a failure: the rate is a fifth by then
    warmup_steps: Number = 20  # over which the rate rises; 1: at once
    max_failures: Number = 12  # fifths: from 2e8 times too high the twelfth is sound
    start_share: Number = 0.5  # of the first loss, above it: suspicious
    start_jitters: Number = 2.0  # largest calm changes above it: suspicious
    calm_changes: Number = 3  # before the jitter alone may judge
    dead: Number = 0.1  # share of its first norm below which a gradient has died
    margin: Number = 0.02  # cosine that is no sign of anything
    opposed: Number = 1 / 4  # share of the trust, in errors of an opposition
    opposed_after: Number = 8  # cosines behind an opposition
    falling: Number = 0.8  # trend in errors; opposition counts below it
    overshot: Number = 2.0  # errors of an opposition that needs no other sign
    agreed: Number = 1.0  # errors of an agreement that may end
    agreed_after: Number = 4  # cosines behind it
    agreement_lost: Number = 1 / 6  # share of the trust, where an agreement has ended
    carried: Number = 0.25  # correlation of steps that a filter with memory has at once
    failed: Number = math.log(0.2)  # log distance of a failure: a fifth
    passed_late: Number = math.log(0.5)  # the largest rate that survives is too high


class Guard(NamedTuple):
    """Divergence after the audit (`supervise.guard`)."""

    loss_scales: Number = 2.0  # of the good loss, above it: suspicious with ...
    noises: Number = 6.0  # ... noises: one noisy batch must not be
    diverged: Number = math.log(0.25)  # log distance of a divergence: a quarter
    data_changed: Number = 1.0  # share of that rise that acquits the rate
    ceiling_below: Number = 0.7  # log distance below a divergence of its ceiling


class Retry(NamedTuple):
    """The second try of a start that was only opposed (`supervise.retry`)."""

    pace: Number = 0.06  # log distance a step: as the search's
    errors: Number = 2.0  # of the averaged loss above `Law.unmoved` levels: suspicious
    watch: Number = 150  # losses by which it is judged after the climb
    still: Number = 2.0  # errors of either trend within which a loss stands still


class Search(NamedTuple):
    """The climb on overwhelming evidence (`rules.search`)."""

    rate: Number = 0.06  # log distance a climbing step
    early_rate: Number = 0.18  # the same while the loss has not moved
    vote: Number = 5.0  # steps by which a vote is late without momentum
    longest: Number = 30.0  # steps by which it is late at most
    reach: Number = 1.2  # log distance within which the landing snaps to the trusted
    further: Number = 0.6  # log distance that it goes back where that is out of reach
    quiet: Number = 20  # steps at the base rate before a slow climb may begin
    clear: Number = 3.0  # noises below the loss itself: it can be told to stand still
    early: Number = 12  # cosines behind a climb during the warm-up
    ahead: Number = 1.0  # share of the trust, in errors that the heading needs
    receded: Number = 2.0  # errors by which an agreement has receded
    falling_back: Number = -4.0  # trend in errors at which a climb has gone too far
    unproven: Number = 2.3  # log distance beyond where the loss last fell: tenfold


class Nudge(NamedTuple):
    """Small moves on agreement and opposition (`rules.alignment`)."""

    rate: Number = 0.02  # log distance a step, at most
    share: Number = 1 / 2  # of the trust, in errors that a move upwards needs
    down_evidence: Number = 1.0  # errors that a move downwards needs
    down_trend: Number = -1.0  # trend in errors below which opposition counts
    margin: Number = 0.01  # cosine that is no agreement
    full_vote: Number = 2.0  # errors at which a vote counts in full
    headed: Number = 0.5  # weight of the heading's votes
    returning: Number = 1.0  # errors that a move up to the trusted rate needs
    near_ceiling: Number = 0.1  # share of the pace above the ceiling


class Settle(NamedTuple):
    """The decay of a run that has arrived (`rules.settle`)."""

    power: Number = 1.5  # of the decay t^-power
    max_long_trend: Number = 2.0  # errors of it, below which the loss is level
    forgetful: Number = 1 / 3  # of the power, where the filter remembers no step
    agreement: Number = 1.0  # errors of alignment above which gradients still agree
    drawn_back: Number = 1.0  # errors of a heading that points back
    offset: Number = 20.0  # steps added to the age


class Average(NamedTuple):
    """The evaluation average and its window (`act.average`, `act.window`)."""

    power: Number = 8.0  # of the polynomial weights: about the last ninth
    every: int = 2  # steps between two absorptions
    memory: Number = 0.02  # weight of the newest lag while the average is young
    shrink: Number = 0.05  # share of the window that a full vote gives up in a step
    evidence: Number = 1.0  # errors of the lag that count for nothing
    full_vote: Number = 2.0  # errors beyond these at which a vote counts in full


class Law(NamedTuple):
    """The default law: shared numbers, and a tuple for each part; None is off."""

    trust: Number = 6.0  # errors that a climb needs: trust in the base rate
    strikes: Number = 3  # suspicious steps, net of others, that are a divergence
    keep_every: Number = 20  # steps between two good copies
    keep_within: Number = 3.0  # errors above its level at which a loss may be copied
    unmoved: Number = 0.12  # share of a loss within which it has not moved
    halved: Number = 0.5  # share of the first loss by which it has fallen: it excuses
    level_after: Number = 31  # losses before a level is one
    audit: Audit | None = Audit()
    guard: Guard | None = Guard()
    retry: Retry | None = Retry()
    search: Search | None = Search()
    nudge: Nudge | None = Nudge()
    settle: Settle | None = Settle()
    average: Average | None = Average()


LAWS = {
    "nudge": Law(),
    "search": Law(trust=3.0),
    "safe": Law(trust=math.inf),
}
"""The laws that `adaptive_scheduler` knows by a name, its ``mode``."""
