"""Climb fast on very strong evidence that the base rate is far too low, then land."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._reasons import EventKind, Reason, because, first_of
from adaptive_optax._types import QUICK, Cosine, Rule, RuleState, reasoned
from adaptive_optax.law import Law, Search, checked
from adaptive_optax.rules.alignment import alignment
from adaptive_optax.rules.settle import settle


class SearchState(NamedTuple):
    """State of `search`."""

    searching: jax.Array  # bool[]
    search_quiet: jax.Array  # i32[] steps since the warm-up
    search_lagged: jax.Array  # f32[] the log scale, averaged over the votes' lag
    search_proven: jax.Array  # f32[] the log scale at which the loss last fell
    search_then: RuleState  # state of the rule that takes over


def search(
    then: Rule | None = None,
    *,
    law: Law = Law(),  # noqa: B008
    momentum: float | jax.Array = 0.9,
) -> Rule:
    """Climb while alignment is very strong, go back some steps, then hand over.

    With c, e, a and z as in `alignment`, and m the log scale::

        climb   while (c_long - .02) / e_long > trust  or  a / e_a > trust
                by `early_rate` where the loss is within a tenth of its first value
                and above twice its noise, else by `rate`;
                but hold while c_short < c_long - 2 e_short
        stop    when c_short < 0
        then back = max(min(m lagged by L steps, m), m - L early_rate)
             L    = 5 + min(1 / (1 - momentum), 20)
             m    = trusted if the loss has not moved,
                    or if trusted lies in [back - reach, back],
                    back - reach if trusted lies below that,
                    else back: as where a start was thrown away and nothing is trusted

    Neither the search nor the rule that follows goes up more than twofold beyond where
    the loss last fell (z > 1), because gradients of saturated units agree for ever.

    Gradients of a sound rate also agree for a while, but by then the loss has moved. A
    rate that changes neither the gradient nor the loss is far too low. The climb then
    starts early and takes large steps.

    A step has an effect as long as the filter remembers it, and its vote is averaged.
    So the climb always overshoots, and the landing takes the overshoot back. The first
    sign of an effect is an agreement that recedes, long before it is gone; while it
    recedes, the climb waits. A search that ends near the trusted rate has found nothing
    better, and returns to that rate exactly.

    Args:
      then: Rule that drives the gain after the search; default `alignment()`.
      law: Its numbers. ``trust`` is the standard errors of alignment that a climb
        needs, >= 0: 6 hardly ever moves a sound base rate, 3 treats it as a guess,
        infinity never searches. ``search.rate`` is the change of the log gain per
        climbing step, > 0; ``search.early_rate`` the same while the loss has not moved.
      momentum: Of the filter, in [0, 1). It sets how late votes arrive.

    Returns:
      A `Rule` that holds during the warm-up and for 20 steps after, or for 8 steps
      where the loss has not moved. After a failed start it holds only for the warm-up.

    Raises:
      TypeError: If ``then`` is no `Rule`, or ``law`` no `Law`.
      ValueError: If the trust is negative, a rate not positive or the momentum
        outside [0, 1).

    Example:
      >>> rule = search(law=Law(trust=3.0))
      >>> bool(rule.init().searching)
      True

    References:
      Leslie N. Smith, Cyclical learning rates for training neural networks, 2017: the
      range test climbs in a run of its own, and a person reads it; here the climb is
      part of the run and a statistic ends it.
    """
    then = alignment() if then is None else then
    if not isinstance(then, Rule):
        raise TypeError(
            f"`then` must be a Rule, got {then!r}; try search(rules.alignment())."
        )
    c = checked(law).search or Search()
    for name in ("rate", "early_rate"):
        example = f"search(law=Law(search=Search({name}=0.06)))"
        _checks.positive(name, getattr(c, name), example=example)
    _checks.evidence("law.trust", law.trust, example="search(law=Law(trust=6.0))")
    _checks.within(
        "momentum", momentum, 0.0, 1.0, open_high=True, example="search(momentum=0.9)"
    )
    remembered = jnp.minimum(1 / (1 - jnp.float32(momentum)), law.warmup_steps)
    lag = 0.5 / (1 - QUICK) + remembered  # a mean's age, and the filter's memory

    def init():
        return SearchState(
            searching=jnp.ones((), bool),
            search_quiet=jnp.zeros((), jnp.int32),
            search_lagged=jnp.zeros((), jnp.float32),
            search_proven=jnp.zeros((), jnp.float32),
            search_then=then.init(),
        )

    def why(signals, state):
        agreement, heading = signals.alignment, signals.heading
        judged, own, m = signals.objective, signals.standing, signals.standing.log_scale
        nudge, then_state, reason = then.answer(signals, state.search_then)
        quiet = jnp.minimum(state.search_quiet + 1, law.warmup_steps)
        quiet = jnp.where(own.warming, 0, quiet)
        overwhelming, climbs = _evidence(agreement, heading, law)
        told = judged.arrived & (law.clear * judged.noise < jnp.abs(judged.fast))
        unmoved = told & (jnp.abs(judged.drop) < law.little)
        early = unmoved & overwhelming & (agreement.count > law.readings)
        patient = own.warming | ((quiet < law.warmup_steps) & (own.failures == 0))
        waiting = state.searching & patient & ~early
        ready = state.searching & ~waiting & agreement.arrived & (agreement.count > 5)
        stop = (agreement.mean < 0.0) & ready & ~own.warming
        still = judged.arrived & (jnp.abs(judged.drop) < law.little)
        landing = land(state.search_lagged, own)
        landing = jnp.where(still, own.trusted_log_scale, landing)
        improves = judged.arrived & (judged.trend > law.hint)
        proven = jnp.where(improves | own.restored, m, state.search_proven)
        pace = jnp.where(unmoved, c.early_rate, c.rate)
        recedes = agreement.mean < agreement.slow - law.clear * agreement.sem
        climb = jnp.where(ready & overwhelming & ~recedes, pace, 0.0)
        delta = jnp.where(state.searching, jnp.where(stop, landing - m, climb), nudge)
        delta = jnp.where(m < proven + c.reach, delta, jnp.minimum(delta, 0.0))
        delta = jnp.where(waiting | own.restored, 0.0, delta).astype(jnp.float32)
        lagged = state.search_lagged
        lagged = jnp.where(own.restored, m, lagged + (m + delta - lagged) / lag)
        landed = because(stop, EventKind.LANDED, agreement.mean)
        reason = jax.tree.map(
            lambda searched, then: jnp.where(state.searching, searched, then),
            first_of(landed, climbs),
            reason,
        )
        following = SearchState(
            searching=state.searching & ~stop,
            search_quiet=quiet.astype(jnp.int32),
            search_lagged=lagged,
            search_proven=proven,
            search_then=then_state,
        )
        return delta, following, reason

    def land(lagged, own):
        """The log scale that a search that ends here goes back to."""
        reach = lag * jnp.maximum(c.rate, c.early_rate)
        trusted, m = own.trusted_log_scale, own.log_scale
        back = jnp.maximum(jnp.minimum(lagged, m), m - reach)
        beyond = jnp.where(trusted > back, back, back - c.reach)
        near = (trusted <= back) & (trusted >= back - c.reach)
        landing = jnp.where(near, trusted, beyond)
        return jnp.where(own.failures > 0, back, landing)

    return reasoned(init, why)


def _evidence(agreement: Cosine, heading: Cosine, law: Law) -> tuple[jax.Array, Reason]:
    """Whether the rate is too low beyond doubt, and which of the two says so."""
    trust = law.trust
    overwhelming = agreement.slow - law.margin > trust * agreement.slow_sem
    agrees = because(
        overwhelming,
        EventKind.CLIMB,
        agreement.slow - law.margin,
        trust * agreement.slow_sem,
    )
    overwhelming |= heading.slow > trust * heading.slow_sem
    ahead = because(
        overwhelming, EventKind.CLIMB, heading.slow, trust * heading.slow_sem
    )
    return overwhelming, first_of(agrees, ahead)


def prior(law: Law = Law(), momentum: float | jax.Array = 0.9) -> Rule:  # noqa: B008
    """The default law of the learning rate: `search`, then `alignment` and `settle`.

    One number, ``law.trust``, says how far the base rate is trusted: a climb needs so
    many standard errors, a nudge upwards half as many, and an opposition of a quarter
    as many fails the start (`supervise.start_audit`).

    Args:
      law: Its numbers and parts; a part that is None is left out. With an infinite
        trust this rule always holds; only the audit and the trial lower the rate.
      momentum: Of the filter; see `search`.

    Returns:
      A `Rule`.

    Raises:
      ValueError: If the trust is negative or the momentum outside [0, 1).

    Example:
      >>> rule = prior(Law(trust=6.0))
    """
    trust = law.trust
    _checks.evidence("law.trust", trust, example="prior(Law(trust=6.0))")
    if _checks.is_infinite(trust):
        return _silent()
    nudge, down = _silent(), _silent()
    if law.nudge is not None:
        nudge = alignment(law)
    if law.settle is not None:
        down = settle(law)
    rule = _both(nudge, down)
    if law.search is not None:
        rule = search(rule, law=law, momentum=momentum)
    if not _checks.is_traced(trust):
        return rule

    def why(signals, state):
        delta, after, reason = rule.answer(signals, state)
        return jnp.where(jnp.isinf(trust), 0.0, delta), after, reason

    return reasoned(rule.init, why)


def _silent() -> Rule:
    """A rule that always holds."""
    return Rule(lambda: (), lambda signals, state: (jnp.zeros((), jnp.float32), state))


def _both(first: Rule, second: Rule) -> Rule:
    """Two rules whose answers add up."""

    def why(signals, state):
        a, first_state, of_a = first.answer(signals, state[0])
        b, second_state, of_b = second.answer(signals, state[1])
        larger = jnp.abs(a) >= jnp.abs(b)
        reason = jax.tree.map(lambda x, y: jnp.where(larger, x, y), of_a, of_b)
        return a + b, (first_state, second_state), reason

    return reasoned(lambda: (first.init(), second.init()), why)
