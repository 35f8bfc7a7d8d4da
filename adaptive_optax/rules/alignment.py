"""Nudge the gain so that gradients agree with the last step just above zero."""

import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._reasons import EventKind, because, first_of
from adaptive_optax._types import Rule, reasoned
from adaptive_optax.law import Law, Nudge, checked
from adaptive_optax.rules import _answer


def alignment(
    law: Law = Law(),  # noqa: B008
    *,
    up_evidence: float | None = None,
    down_evidence: float | None = None,
) -> Rule:
    """Raise the rate while gradients agree with the last step, lower it on opposition.

    Let c be the averaged alignment and e its standard error, both over a short and over
    a long horizon; a the heading and e_a its error; z the objective's trend and p the
    step correlation::

        up   = rate clip((c_long - .02) / 2 e_long, 0, 1)
               if (c_long - .02) / e_long > up_evidence  and  c_short > .02
        up   = rate/2 clip(a / 2 e_a, 0, 1)   where that is more,
               if a / e_a > up_evidence  and  (c_long > 0  or  p <= 0)
        down = rate clip(-c_short / 2 e_short, 0, 1)
               if -c_short / e_short > down_evidence  and  z < -1  and  p > 0
        delta = up - down

    Minibatch noise hides a weak agreement from the short horizon, and the long one is
    late to see an agreement end. So the long one votes and the short one has a veto.
    The heading shows what both miss: a minimum that moves on, and a rate that is too
    low under a filter without memory, whose steps are opposed at every rate. With
    momentum, opposition is a veto on the heading too: along a narrow valley the way is
    right, but the steps across it are too long. Its vote counts half: with all of it
    the rate of a density model rose until the loss was twice as high.

    Agreement says "too low" reliably. Opposition alone does not say "too high": sound
    rates of noisy and of curvature-limited runs have as much of it as rates ten times
    too high. So opposition counts only if the loss rises and p > 0: a filter without
    memory turns with its gradient, and is opposed at its best rate.

    Args:
      law: Its numbers. ``nudge.rate`` is the largest change of the log gain, > 0. With
        ``nudge.power``, > 0, a change upwards is multiplied by power / (t + 20) over
        the rate while that is above 1: a young run has the most to gain by a rise.
      up_evidence: Standard errors needed to raise the gain, >= 0; infinite for never.
        By default half of the trust.
      down_evidence: The same to lower it, by default ``hint``.

    Returns:
      A `Rule` without state. It holds where no alignment could be measured, and for
      the first three steps after a start or a restore.

    Raises:
      TypeError: If ``law`` is no `Law`.
      ValueError: If the rate is not positive or the evidence negative.

    Example:
      >>> rule = alignment(up_evidence=1.0)
      >>> rule.init()
      ()

    References:
      Robert A. Jacobs, Increased rates of convergence through learning rate
      adaptation, 1988: delta-bar-delta compares signs per coordinate. Baydin et al.,
      Online learning rate adaptation with hypergradient descent, 2018: the same
      product, not normalised, so its step depends on the gradient's scale. Here it is
      one cosine, weighed against its own noise.
    """
    c = checked(law).nudge or Nudge()
    if c.power is not None:
        _checks.positive(
            "power", c.power, example="alignment(Law(nudge=Nudge(power=6.0)))"
        )
    up_evidence = law.trust * law.half if up_evidence is None else up_evidence
    _checks.positive("rate", c.rate, example="alignment(Law(nudge=Nudge(rate=0.02)))")
    _checks.evidence("up_evidence", up_evidence, example="alignment(up_evidence=3.0)")
    down_evidence = law.hint if down_evidence is None else down_evidence
    _checks.evidence(
        "down_evidence", down_evidence, example="alignment(down_evidence=1.0)"
    )

    def init():
        return ()

    def why(signals, state):
        agreement, heading = signals.alignment, signals.heading
        carries = signals.step_correlation.mean > 0
        votes = jnp.stack([agreement.slow - law.margin, -agreement.mean, heading.slow])
        errors = jnp.stack([agreement.slow_sem, agreement.sem, heading.slow_sem])
        z_up, z_down, z_ahead = votes / errors
        agrees = (z_up > up_evidence) & (agreement.mean > law.margin)
        ahead = (z_ahead > up_evidence) & ((agreement.slow > 0) | ~carries)
        overshoots = carries & (signals.objective.trend < -law.hint)
        overshoots &= z_down > down_evidence
        counted = jnp.stack([agrees, overshoots, ahead])
        z = jnp.where(counted, jnp.stack([z_up, z_down, z_ahead]), 0.0)
        up, down, ahead = jnp.clip(z / law.clear, 0.0, 1.0)
        ahead *= law.half
        delta = c.rate * (jnp.maximum(up, ahead) - down)
        if c.power is not None:
            pace = c.power / (signals.count.astype(jnp.float32) + law.warmup_steps)
            delta *= jnp.where(delta > 0, jnp.maximum(pace / c.rate, 1.0), 1.0)
        delta = jnp.where(_answer.may_vote(signals), delta, 0.0).astype(jnp.float32)
        reason = first_of(
            because(delta < 0, EventKind.NUDGED_DOWN, z_down, down_evidence),
            because(up >= ahead, EventKind.NUDGED_UP, z_up, up_evidence),
            because(True, EventKind.NUDGED_UP, z_ahead, up_evidence),
        )
        return jnp.where(jnp.isfinite(delta), delta, 0.0), state, reason

    return reasoned(init, why)
