"""Climb fast on overwhelming evidence that the base rate is far too low, then land."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, RuleState
from adaptive_optax.rules.alignment import UP_MARGIN, alignment
from adaptive_optax.rules.settle import settle

STOP = -1.0  # short alignment in standard errors that ends a climb
LAG = 15.0  # steps by which the votes of the averaged alignment arrive late
REACH = 1.2  # log distance within which the landing snaps to the trusted rate
QUIET = 20  # steps at the base rate before a search may begin
FALLING_BACK = -4.0  # loss trend at which a climb has gone too far
UNPROVEN = 2.3  # log distance to climb beyond where the loss last fell


class SearchState(NamedTuple):
    """State of `search`."""

    searching: jax.Array  # bool[]
    search_quiet: jax.Array  # i32[] steps since the audit
    search_lagged: jax.Array  # f32[] the coordinate, averaged over `LAG` steps
    search_proven: jax.Array  # f32[] the coordinate at which the loss last fell
    search_then: RuleState  # state of the rule that takes over


def search(
    then: Rule | None = None, *, evidence: float = 6.0, rate: float = 0.06
) -> Rule:
    """Climb while alignment is overwhelming, fall back to where it was, hand over.

    With c, e and z as in `alignment`, and m the coordinate::

        climb by `rate`  while (c_long - .01) / e_long > evidence
        stop             when c_short / e_short < -1 or z < -4
        then back = max(min(m lagged by 15 steps, m), m - 15 rate)
             m    = trusted if trusted lies in [back - 1.2, back], else the nearer end;
               back where a start was thrown away, for then nothing is trusted

    Neither it nor the rule that follows goes up more than tenfold beyond where the
    loss last fell (z > 1): gradients of saturated units agree for ever.

    The averaged vote arrives some 15 steps late, so the climb always overshoots and the
    landing gives that back. A search that ends near the trusted rate has found nothing
    better than what it started with, and returns to it exactly.

    Args:
      then: Rule that drives the gain after the search; default `alignment()`.
      evidence: Standard errors of alignment that a climb needs, >= 0. This is the
        prior's strength: 6 hardly ever moves a sound base rate, 3 takes it for a
        guess, infinity never searches.
      rate: Change of the log gain per climbing step, > 0.

    Returns:
      A `Rule` that holds while the start is on probation and for 20 steps after.

    Raises:
      TypeError: If ``then`` is no `Rule`.
      ValueError: If ``evidence`` is negative or ``rate`` not positive.

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
    _checks.evidence("evidence", evidence, example="search(evidence=6.0)")

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
        quiet = jnp.where(s.auditing, 0, jnp.minimum(state.search_quiet + 1, QUIET))
        waiting = state.searching & (s.auditing | ((quiet < QUIET) & (s.failures == 0)))
        ready = state.searching & ~waiting & s.has_alignment & (s.alignment_count > 5)
        stop = ready & (
            (s.alignment_mean < STOP * s.alignment_sem) | (s.loss_trend < FALLING_BACK)
        )
        back = jnp.maximum(jnp.minimum(state.search_lagged, m), m - LAG * rate)
        near = jnp.clip(s.trusted, back - REACH, back)
        landing = jnp.where(s.failures > 0, back, near)
        overwhelming = s.alignment_slow - UP_MARGIN > evidence * s.alignment_slow_sem
        falls = s.has_value & (s.loss_trend > 1.0)
        proven = jnp.where(falls | s.restored, m, state.search_proven)
        climb = jnp.where(ready & overwhelming, rate, 0.0)
        delta = jnp.where(state.searching, jnp.where(stop, landing - m, climb), nudge)
        delta = jnp.where(m < proven + UNPROVEN, delta, jnp.minimum(delta, 0.0))
        delta = jnp.where(waiting | s.restored, 0.0, delta).astype(jnp.float32)
        after = m + delta
        return delta, SearchState(
            searching=state.searching & ~stop,
            search_quiet=quiet,
            search_lagged=jnp.where(
                s.restored, m, state.search_lagged + (after - state.search_lagged) / LAG
            ),
            search_proven=proven,
            search_then=then_state,
        )

    return Rule(init, update)


def prior(strength: float) -> Rule:
    """The default law of the learning rate: `search`, then `alignment` and `settle`.

    One number says how far the base rate is trusted: a climb needs ``strength``
    standard errors, a nudge upwards half as many.

    Args:
      strength: Standard errors, >= 0; infinite for a base rate that only an audit or a
        guard may lower.

    Returns:
      A `Rule`.

    Raises:
      ValueError: If ``strength`` is negative.

    Example:
      >>> rule = prior(6.0)
    """
    _checks.evidence("strength", strength, example="prior(6.0)")
    if strength == math.inf:
        return alignment(up_evidence=math.inf, down_evidence=math.inf)
    nudge = _both(alignment(up_evidence=strength / 2), settle())
    return search(nudge, evidence=strength)


def _both(first: Rule, second: Rule) -> Rule:
    """Two rules whose answers add up."""

    def update(signals, state):
        a, first_state = first.update(signals, state[0])
        b, second_state = second.update(signals, state[1])
        return a + b, (first_state, second_state)

    return Rule(lambda: (first.init(), second.init()), update)
