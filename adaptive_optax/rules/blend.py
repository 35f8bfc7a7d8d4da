"""Combine rules into one: a convex sum whose weights may follow the evidence.

    delta_t = Σ w_i δ_i                                  what is answered
    w_i     ∝ b_i exp(credit · s · c_i)                  mixed with a floor of b_i
    s       = 1 / (1 + max(v - 1, 0))                    stability, in (0, 1]
    c_i    <- β c_i + (1 - β) e_i tanh(z_t - z̄)          credit
    e_i    <- ρ e_i + (1 - ρ) a_i,   a_i = u_i Σ w_j u_j,   u_i = δ_i / max_j |δ_j|
    z̄      <- ρ z̄   + (1 - ρ) z_t

b are the base weights, z the loss trend, v the variance ratio of the loss.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax import _checks
from adaptive_optax._types import Rule, RuleState, Signals
from adaptive_optax.rules import _answer

_CALL = "blend(rules.trend(), rules.variance(), weights=(2, 1))"


class BlendState(NamedTuple):
    """State of `blend`."""

    weights: jax.Array  # f32[n] weight of each rule's answer, sum 1
    blend_credit: jax.Array  # f32[n] evidence for each rule, in [-1, 1]
    blend_votes: jax.Array  # f32[n] trace of its agreement with recent moves
    blend_trend: jax.Array  # f32[] trace of the loss trend
    blend_rules: tuple[RuleState, ...]  # the rules' own states


def blend(
    *rules: Rule | Mapping[str, Rule] | Sequence[Rule],
    weights: Sequence[float] | Mapping[str, float] | None = None,
    credit: float = 0.0,
    credit_decay: float = 0.99,
    trace_decay: float = 0.9,
    floor: float = 0.05,
) -> Rule:
    """Combine rules into one whose answer is the weighted mean of theirs.

    A mean of additive changes in the coordinate is a weighted geometric mean of
    factors. It is never beyond the boldest rule, and exactly 0 where all of them hold.

    With ``credit`` 0 the weights are fixed. With more, a rule gains weight if the loss
    did better after the gain moved its way, or worse after the gain moved against it:

    - Only the move that was made can have changed the loss. So a vote counts by its
      *agreement* with that move, both divided by the boldest vote of the step.
    - The loss trend is compared with its own average over the same steps. So a loss
      that falls or rises steadily credits no rule.
    - Nothing has a unit: z is in standard errors, votes are in [-1, 1].

    This is Hedge with discounted gains. With eta = credit (1 - beta) / beta and r_i the
    evidence of a step for rule i, in [-1, 1], the weights before the floor are
    w_i ~ b_i exp(eta beta R_i), where R_i <- beta R_i + r_i. Let Phi be
    log(sum b_i exp(eta R_i)) / eta. By Jensen's inequality for x^beta and Hoeffding's
    lemma Phi' <= beta Phi + sum w_i r_i + eta / 2, and always
    Phi >= R_i - log(1 / b_i) / eta. So over the last 1 / (1 - beta) steps the blend
    earns what its best rule earns, less log(1 / b_i) / eta + eta / (2 (1 - beta)),
    whatever the evidence is; the floor costs it no more than its share. The best rule
    may change. This says nothing of the evidence: it is what the loss did after the
    blend's move, and not what it would have done after the rule's own.

    When the loss is unstable, evidence is worth less, and the weights move back to the
    base weights. Credit weakens a bad rule, but choose the rules with care all the
    same: it cannot judge a rule that always pushes the same way, or two that cancel
    exactly.

    Args:
      *rules: `Rule`s one after another, or one sequence of them, or one mapping from
        names to them (the weights keep its order).
      weights: Base weights, one a rule, or by name if the rules are named; finite, at
        least 0, not all 0. They are divided by their sum. None weighs all alike.
      credit: How strongly credit moves the weights, at least 0. A rule's credit of .1
        is already large, so useful values are 3 to 30.
      credit_decay: β, the memory of credit, in [0, 1).
      trace_decay: ρ, over how many steps a move is expected to show in the loss trend,
        in [0, 1).
      floor: Share of its base weight that no rule can lose, in [0, 1]; a rule with
        weight near 0 has a way back.

    Returns:
      A `Rule` whose state is a `BlendState`. On a step without a loss the rules still
      answer, but weights, credit and traces hold. A restore takes all of them back to
      their start: the steps that the votes led to are undone, and what follows is
      another run.

    Raises:
      TypeError: If an item is not a `Rule`, or an option not a number.
      ValueError: If there is no rule, or the weights do not fit, are negative, not
        finite or all zero, or an option is outside its range.

    Example:
      >>> from adaptive_optax import rules
      >>> law = blend(rules.trend(), rules.variance(), weights=(3, 1))
      >>> law.init().weights.tolist()
      [0.75, 0.25]
      >>> named = blend({"loss": rules.trend(), "return": rules.reward()}, credit=10.0)

    References:
      Y. Freund and R. Schapire, *A decision-theoretic generalization of on-line
      learning*, 1997: exponential weights; there every expert's loss is known at every
      round, here only the loss of the blend's own move is. R. J. Williams, *Simple
      statistical gradient-following algorithms for connectionist reinforcement
      learning*, 1992: outcome minus baseline times what was tried. M. Herbster and
      M. Warmuth, *Tracking the best expert*, 1998: the floor. The pull back to the base
      weights by the variance ratio is ours.
    """
    names, members = _members(rules)
    base = _base_weights(names, len(members), weights)
    _checks.within("credit", credit, 0.0, example="credit=10.0")
    for name, decay in [("credit_decay", credit_decay), ("trace_decay", trace_decay)]:
        _checks.within(name, decay, 0.0, 1.0, open_high=True, example=f"{name}=0.95")
    _checks.within("floor", floor, 0.0, 1.0, example="floor=0.05")
    adapts = _checks.is_traced(credit) or credit > 0.0

    def init() -> BlendState:
        return BlendState(
            weights=jnp.array(base, jnp.float32),
            blend_credit=jnp.zeros(len(members), jnp.float32),
            blend_votes=jnp.zeros(len(members), jnp.float32),
            blend_trend=jnp.zeros((), jnp.float32),
            blend_rules=tuple(rule.init() for rule in members),
        )

    def judge(signals: Signals, state: BlendState) -> BlendState:
        """Credit earlier votes with what the loss has done since."""
        z, v = signals.loss.trend, signals.loss.variance_ratio
        # Rejected: votes times z itself. That credits "up" for any fall of the loss;
        # all twelve noisy quadratics it was tried on diverged.
        outcome = jnp.tanh(z - state.blend_trend)
        earned = state.blend_votes * outcome
        credits = credit_decay * state.blend_credit + (1.0 - credit_decay) * earned
        stability = 1.0 / (1.0 + jnp.maximum(v - 1.0, 0.0))
        believed = jax.nn.softmax(jnp.log(base) + credit * stability * credits)
        return state._replace(
            weights=(1.0 - floor) * believed + floor * base,
            blend_credit=credits,
            blend_trend=trace_decay * state.blend_trend + (1.0 - trace_decay) * z,
        )

    def remember(state: BlendState, deltas: jax.Array) -> BlendState:
        """Add this step's agreements to the trace."""
        boldest = jnp.max(jnp.abs(deltas))
        votes = jnp.where(boldest > 0.0, deltas / jnp.maximum(boldest, 1e-30), 0.0)
        agreement = votes * jnp.sum(state.weights * votes)
        trace = trace_decay * state.blend_votes + (1.0 - trace_decay) * agreement
        return state._replace(blend_votes=trace)

    def update(signals: Signals, state: BlendState) -> tuple[jax.Array, BlendState]:
        asked = [
            _answer.hold_unless(jnp.isfinite(delta), delta, following, own)
            for rule, own in zip(members, state.blend_rules, strict=True)
            for delta, following in [rule.update(signals, own)]
        ]
        deltas = jnp.stack([delta for delta, _ in asked])
        learned = state
        if adapts:
            restored = jnp.asarray(signals.standing.restored, jnp.bool_)
            heard = _answer.heard(
                signals.loss.arrived, signals.loss.trend, signals.loss.variance_ratio
            )
            learned = _select(heard & ~restored, judge(signals, state), state)
            delta = _mean(learned.weights, deltas)
            learned = _select(heard, remember(learned, deltas), learned)
            forgotten = init()._replace(blend_rules=learned.blend_rules)
            learned = _select(restored, forgotten, learned)
        else:
            delta = _mean(state.weights, deltas)
        return delta, learned._replace(blend_rules=tuple(own for _, own in asked))

    return Rule(init, update)


def _mean(weights: jax.Array, deltas: jax.Array) -> jax.Array:
    """The weighted mean, clipped because weights sum to 1 only up to rounding."""
    return jnp.clip(jnp.sum(weights * deltas), jnp.min(deltas), jnp.max(deltas))


def _select(pick: jax.Array, new: BlendState, old: BlendState) -> BlendState:
    return jax.tree.map(lambda a, b: jnp.where(pick, a, b), new, old)


def _members(rules: tuple[Any, ...]) -> tuple[tuple[str, ...] | None, tuple[Rule, ...]]:
    """The rules of a call, and their names if they came in a mapping."""
    names = None
    if len(rules) == 1 and isinstance(rules[0], Mapping):
        names, rules = tuple(rules[0]), tuple(rules[0].values())
    elif len(rules) == 1 and not isinstance(rules[0], Rule):
        if isinstance(rules[0], Sequence) and not isinstance(rules[0], str):
            rules = tuple(rules[0])
    if not rules:
        raise ValueError(f"`blend` needs at least one rule, got none; try {_CALL}.")
    for item in rules:
        if not isinstance(item, Rule):
            raise TypeError(f"`blend` takes rules, got {item!r}; try {_CALL}.")
    return names, rules


def _base_weights(names: tuple[str, ...] | None, n: int, weights: Any) -> Any:
    """The base weights, one a rule and summing to 1."""
    if weights is None:
        return np.full(n, 1.0 / n, np.float32)
    if isinstance(weights, Mapping):
        if names is None or set(weights) != set(names):
            known = "unnamed" if names is None else ", ".join(map(repr, names))
            raise ValueError(
                f"`weights` names {', '.join(map(repr, weights))} but the rules are "
                f"{known}; try blend({{'loss': rules.trend()}}, weights={{'loss': 1}})."
            )
        weights = [weights[name] for name in names]
    try:
        listed = list(weights)
    except TypeError:
        listed = []
    if len(listed) != n:
        raise ValueError(
            f"`weights` must hold one number for each of {n} rules, got {weights!r}; "
            f"try {_CALL}."
        )
    for i, weight in enumerate(listed):
        _checks.within(f"weights[{i}]", weight, 0.0, example=_CALL)
    if any(map(_checks.is_traced, listed)):
        traced = jnp.stack([jnp.asarray(weight, jnp.float32) for weight in listed])
        return traced / jnp.sum(traced)
    shares = np.asarray(listed, np.float64)
    if not shares.any():
        raise ValueError(f"`weights` must not all be 0, got {weights!r}; try {_CALL}.")
    shares /= shares.max()  # a sum of huge weights overflows
    return (shares / shares.sum()).astype(np.float32)
