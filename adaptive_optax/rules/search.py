"""Climb fast on overwhelming evidence that the base rate is far too low, then land."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, RuleState
from adaptive_optax.rules.alignment import UP_MARGIN, alignment
from adaptive_optax.rules.settle import settle

VOTE, LONGEST = 5.0, 30.0  # steps by which a vote is late: without momentum, at most
REACH = 1.2  # log distance within which the landing snaps to the trusted rate
FURTHER = 0.6  # log distance that it goes back further where that is out of reach
QUIET = 20  # steps at the base rate before a slow climb may begin
UNMOVED = 0.12  # share of the first loss within which it has not moved
CLEAR = 3.0  # noises below the loss itself where its standing still can be told
EARLY = 12  # cosines behind a climb during the warm-up
RECEDED = 2.0  # standard errors by which an agreement has receded
FALLING_BACK = -4.0  # loss trend at which a climb has gone too far
UNPROVEN = 2.3  # log distance to climb beyond where the loss last fell


class SearchState(NamedTuple):
    """State of `search`."""

    searching: jax.Array  # bool[]
    search_quiet: jax.Array  # i32[] steps since the warm-up
    search_lagged: jax.Array  # f32[] the coordinate, averaged over the votes' lag
    search_proven: jax.Array  # f32[] the coordinate at which the loss last fell
    search_then: RuleState  # state of the rule that takes over


def search(
    then: Rule | None = None,
    *,
    evidence: float = 6.0,
    rate: float = 0.06,
    early_rate: float = 0.18,
    momentum: float | jax.Array = 0.9,
) -> Rule:
    """Climb while alignment is overwhelming, fall back to where it was, hand over.

    With c, e, a and z as in `alignment`, and m the coordinate::

        climb   while (c_long - .01) / e_long > evidence  or  a / e_a > evidence
                by `early_rate` where the loss is within an eighth of its first value
                and above three times its noise, else by `rate`;
                but hold while c_short < c_long - 2 e_short
        stop    when c_short < 0 or z < -4
        then back = max(min(m lagged by L steps, m), m - L early_rate)
             L    = min(5 + 1 / (1 - momentum), 30)
             m    = trusted if trusted lies in [back - 1.2, back],
                    back - .6 if trusted lies below that,
                    else back: as where a start was thrown away and nothing is trusted

    Neither it nor the rule that follows goes up more than tenfold beyond where the
    loss last fell (z > 1): gradients of saturated units agree for ever.

    Gradients of a sound rate also agree for a while. But by then the loss has moved: a
    rate that leaves both the gradient and the loss as they were is far too low, and
    needs neither patience nor small steps.

    A step is felt as long as the filter remembers it, and its vote is averaged, so the
    climb always overshoots and the landing gives that back. The first sign that the
    steps are felt is an agreement that recedes, long before it is gone: while it does,
    the climb waits. A search that ends near the
    trusted rate has found nothing better than what it started with, and returns to it
    exactly.

    Args:
      then: Rule that drives the gain after the search; default `alignment()`.
      evidence: Standard errors of alignment that a climb needs, >= 0. This is the
        prior's strength: 6 hardly ever moves a sound base rate, 3 takes it for a
        guess, infinity never searches.
      rate: Change of the log gain per climbing step, > 0.
      early_rate: The same while the loss has not moved, > 0.
      momentum: Of the filter, in [0, 1): how late votes arrive.

    Returns:
      A `Rule` that holds during the warm-up and for 20 steps after, or for 12 steps
      where the loss has not moved. After a failed start it waits for the warm-up alone.

    Raises:
      TypeError: If ``then`` is no `Rule`.
      ValueError: If ``evidence`` is negative, a rate not positive or the momentum
        outside [0, 1).

    Example:
      >>> rule = search(evidence=3.0)
      >>> bool(rule.init().searching)
      True

    References:
      Leslie N. Smith, Cyclical learning rates for training neural networks, 2017: the
      range test climbs on a run of its own and is read by eye; here the climb is part
      of the run and a statistic ends it.
    """
    then = alignment() if then is None else then
    if not isinstance(then, Rule):
        raise TypeError(
            f"`then` must be a Rule, got {then!r}; try search(rules.alignment())."
        )
    _checks.positive("rate", rate, example="search(rate=0.06)")
    _checks.positive("early_rate", early_rate, example="search(early_rate=0.15)")
    _checks.evidence("evidence", evidence, example="search(evidence=6.0)")
    _checks.within(
        "momentum", momentum, 0.0, 1.0, open_high=True, example="search(momentum=0.9)"
    )
    lag = jnp.minimum(VOTE + 1 / (1 - jnp.float32(momentum)), LONGEST)

    def init():
        return SearchState(
            searching=jnp.ones((), bool),
            search_quiet=jnp.zeros((), jnp.int32),
            search_lagged=jnp.zeros((), jnp.float32),
            search_proven=jnp.zeros((), jnp.float32),
            search_then=then.init(),
        )

    def update(signals, state):
        s, m = signals, signals.coordinate
        nudge, then_state = then.update(s, state.search_then)
        quiet = jnp.where(s.warming, 0, jnp.minimum(state.search_quiet + 1, QUIET))
        overwhelming = s.alignment_slow - UP_MARGIN > evidence * s.alignment_slow_sem
        overwhelming |= s.heading > evidence * s.heading_sem
        told = s.has_value & (CLEAR * s.loss_noise < jnp.abs(s.loss_fast))
        unmoved = told & (jnp.abs(s.loss_gain) < UNMOVED)
        early = unmoved & overwhelming & (s.alignment_count > EARLY)
        patient = s.warming | ((quiet < QUIET) & (s.failures == 0))
        waiting = state.searching & patient & ~early
        ready = state.searching & ~waiting & s.has_alignment & (s.alignment_count > 5)
        stop = (ready & ~s.warming) & (
            (s.alignment_mean < 0.0) | (s.loss_trend < FALLING_BACK)
        )
        reach = lag * jnp.maximum(rate, early_rate)
        back = jnp.maximum(jnp.minimum(state.search_lagged, m), m - reach)
        beyond = jnp.where(s.trusted > back, back, back - FURTHER)
        near = (s.trusted <= back) & (s.trusted >= back - REACH)
        landing = jnp.where(near, s.trusted, beyond)
        landing = jnp.where(s.failures > 0, back, landing)
        falls = s.has_value & (s.loss_trend > 1.0)
        proven = jnp.where(falls | s.restored, m, state.search_proven)
        pace = jnp.where(unmoved, early_rate, rate)
        recedes = s.alignment_mean < s.alignment_slow - RECEDED * s.alignment_sem
        climb = jnp.where(ready & overwhelming & ~recedes, pace, 0.0)
        delta = jnp.where(state.searching, jnp.where(stop, landing - m, climb), nudge)
        delta = jnp.where(m < proven + UNPROVEN, delta, jnp.minimum(delta, 0.0))
        delta = jnp.where(waiting | s.restored, 0.0, delta).astype(jnp.float32)
        after = m + delta
        return delta, SearchState(
            searching=state.searching & ~stop,
            search_quiet=quiet,
            search_lagged=jnp.where(
                s.restored, m, state.search_lagged + (after - state.search_lagged) / lag
            ),
            search_proven=proven,
            search_then=then_state,
        )

    return Rule(init, update)


def prior(strength: float, momentum: float | jax.Array = 0.9) -> Rule:
    """The default law of the learning rate: `search`, then `alignment` and `settle`.

    One number says how far the base rate is trusted: a climb needs ``strength``
    standard errors, a nudge upwards half as many; and so much opposition as a quarter
    of it fails the start (`supervise.audit`).

    Args:
      strength: Standard errors, >= 0; infinite for a base rate that only an audit or a
        guard may lower.
      momentum: Of the filter; see `search`.

    Returns:
      A `Rule`.

    Raises:
      ValueError: If ``strength`` is negative or the momentum outside [0, 1).

    Example:
      >>> rule = prior(6.0)
    """
    _checks.evidence("strength", strength, example="prior(6.0)")
    if _checks.is_infinite(strength):
        return alignment(up_evidence=math.inf, down_evidence=math.inf)
    nudge = _both(alignment(up_evidence=strength / 2), settle())
    law = search(nudge, evidence=strength, momentum=momentum)
    if not _checks.is_traced(strength):
        return law

    def update(signals, state):
        delta, after = law.update(signals, state)
        return jnp.where(jnp.isinf(strength), 0.0, delta), after

    return Rule(law.init, update)


def _both(first: Rule, second: Rule) -> Rule:
    """Two rules whose answers add up."""

    def update(signals, state):
        a, first_state = first.update(signals, state[0])
        b, second_state = second.update(signals, state[1])
        return a + b, (first_state, second_state)

    return Rule(lambda: (first.init(), second.init()), update)
