"""Every number of the default law of the learning rate, with its unit and its reason.

A `Law` is a value: print it, `_replace` a number, set a part to None to switch it off::

    adaptive_scheduler(optax.adam, 1e-3, law=Law(skip=None))
    adaptive_scheduler(optax.adam, 1e-3, law=Law(skip=Skip(noises=8.0)))

docs/law.md has the equations. Units: a *step* is one update; a *loss* is one step with
a loss; *errors* are standard errors of the average that is judged; *noises* are
standard deviations of one loss; a *log distance* is a difference of log learning rates.
Numbers may be traced scalars, to study many laws in one program.
"""

import math
from typing import Any, NamedTuple

Number = Any
"""A Python number, or a scalar array."""


class Audit(NamedTuple):
    """The audit of the start (`supervise.start_audit`)."""

    steps: Number = 60  # good steps of a first audit: three times the warm-up
    again: Number = 20  # good steps after a failure: the rate is then a fifth
    warmup_steps: Number = 20  # steps over which the rate rises; 1: at once
    max_failures: Number = 12  # cuts to a fifth: 12 repair a rate 2e8 times too high
    start_share: Number = 0.5  # share of the first loss; this far above it: suspicious
    start_jitters: Number = 2.0  # jitters above the first loss: suspicious
    calm_changes: Number = 3  # calm changes before the jitter alone may judge
    dead: Number = 0.1  # share of its first norm below which a gradient has died
    margin: Number = 0.02  # cosines this small are taken for 0
    opposed: Number = 1 / 4  # share of the trust, in errors of an opposition
    opposed_after: Number = 8  # cosines seen before opposition counts
    falling: Number = 0.8  # trend in errors below which opposition counts
    overshot: Number = 2.0  # errors of an opposition that fails whatever the loss
    agreed: Number = 1.0  # errors of an agreement that can be lost
    agreed_after: Number = 4  # cosines seen before that
    agreement_lost: Number = 1 / 6  # share of the trust, after an agreement
    carried: Number = 0.25  # step correlation above which the filter has memory
    failed: Number = math.log(0.2)  # log distance of a failure: a fifth
    passed_late: Number = math.log(0.5)  # the largest rate to survive is too high


class Skip(NamedTuple):
    """Batches that are not learnt from (`supervise.skip`)."""

    loss_scales: Number = 2.0  # good losses above the good loss: far outside, and ...
    noises: Number = 6.0  # ... this many noises more, for noisy batches
    share: Number = 0.05  # of the run that may be skipped in the long run
    least: Number = 10.0  # batches that may be skipped at any age
    most: Number = 100.0  # batches that may be skipped at once at most
    gain_share: Number = 0.05  # of the loss's range: what |good| counts for at least
    hold_share: Number = 0.2  # of the run's age for which new data hold every gain
    back: Number = 0.5  # share of a rise above the trusted rate that they undo


class Trial(NamedTuple):
    """Is the rate at fault? The experiment that tells (`supervise.trial`)."""

    patience: Number = 5  # batches in a row not learnt from before it begins
    start_patience: Number = 2  # bad batches minus others in the audit
    window: Number = 40  # steps within which a second offence is the rate's fault, ...
    window_share: Number = 0.25  # ... or this share of the run's age
    cut: Number = math.log(0.2)  # log distance of the first cut; then twice, four times
    most: Number = 3  # cuts in a row; if they did not help, all are taken back
    repay: Number = 4.0  # power with which a cut is repaid: t^4


class Search(NamedTuple):
    """The climb on very strong evidence (`rules.search`)."""

    rate: Number = 0.06  # log distance a climbing step
    early_rate: Number = 0.18  # the same while the loss has not moved
    vote: Number = 5.0  # steps by which a vote is late without momentum
    longest: Number = 30.0  # steps by which it is late at most
    reach: Number = 1.2  # log distance: land at the trusted rate if within it
    further: Number = 0.6  # log distance it goes back if the trusted rate is lower
    quiet: Number = 20  # steps at the base rate before a slow climb may begin
    clear: Number = 3.0  # noises: a larger loss can be seen to stand still
    early: Number = 12  # cosines seen before a climb in the warm-up
    ahead: Number = 1.0  # share of the trust, in errors that the heading needs
    receded: Number = 2.0  # errors below its long mean: the agreement recedes
    falling_back: Number = -4.0  # trend in errors at which a climb has gone too far
    unproven: Number = 0.7  # log distance above where the loss last fell: twofold


class Nudge(NamedTuple):
    """Small moves on agreement and opposition (`rules.alignment`)."""

    rate: Number = 0.02  # log distance a step, at most
    share: Number = 1 / 2  # of the trust, in errors that a move upwards needs
    down_evidence: Number = 1.0  # errors that a move downwards needs
    down_trend: Number = -1.0  # trend in errors below which opposition counts
    margin: Number = 0.01  # cosines this small are no agreement
    full_vote: Number = 2.0  # errors at which a vote counts in full
    headed: Number = 0.5  # weight of the heading's votes
    returning: Number = 1.0  # errors that a move up to the trusted rate needs


class Settle(NamedTuple):
    """The decay while the loss is level (`rules.settle`)."""

    power: Number = 1.5  # of the decay t^-power
    max_long_trend: Number = 2.0  # long trend in errors below which the loss is level
    forgetful: Number = 1 / 3  # share of the power for a filter without memory
    agreement: Number = 1.0  # errors of alignment above which gradients still agree
    drawn_back: Number = 1.0  # errors of a heading that points back
    offset: Number = 20.0  # steps added to the age


class Average(NamedTuple):
    """The evaluation average (`act.average`, `act.averaging_horizon`)."""

    power: Number = 8.0  # of the polynomial weights: about the last ninth
    every: int = 2  # steps between two absorptions
    memory: Number = 0.02  # weight of the newest lag while the average is young
    shrink: Number = 0.05  # share of the horizon that a full vote takes off in a step
    evidence: Number = 1.0  # errors of the lag that are ignored
    full_vote: Number = 2.0  # errors beyond these at which a vote counts in full


class Law(NamedTuple):
    """The default law: shared numbers, and its parts; None switches a part off."""

    trust: Number = 6.0  # errors that a climb needs: trust in the base rate
    keep_every: Number = 20  # steps between two good copies
    keep_within: Number = 3.0  # errors above the good loss up to which a copy is kept
    unmoved: Number = 0.12  # share of a loss within which it counts as unmoved
    halved: Number = 0.5  # drop from which the loss has halved: it is no failure
    level_after: Number = 31  # losses before a level can be judged
    audit: Audit | None = Audit()
    skip: Skip | None = Skip()
    trial: Trial | None = Trial()
    search: Search | None = Search()
    nudge: Nudge | None = Nudge()
    settle: Settle | None = Settle()
    average: Average | None = Average()


LAWS = {
    "nudge": Law(),
    "search": Law(trust=3.0),
    "safe": Law(trust=math.inf),
}
"""The laws that have a name: ``mode`` of `adaptive_scheduler`."""
