"""Nudge the gain so that gradients agree with the last step just above zero."""

import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule
from adaptive_optax.law import Nudge
from adaptive_optax.rules import _answer


def alignment(config: Nudge = Nudge(), *, up_evidence: float = 3.0) -> Rule:  # noqa: B008
    """Raise the rate while gradients agree with the last step, lower it on opposition.

    Let c be the averaged alignment and e its standard error, both over a short and over
    a long horizon; a the heading and e_a its error; z the objective's trend and p the
    step correlation::

        up   = rate clip((c_long - .01) / 2 e_long, 0, 1)
               if (c_long - .01) / e_long > up_evidence  and  c_short > .01
        up   = rate clip(a / 2 e_a, 0, 1) / 2     where that is more,
               if a / e_a > up_evidence  and  (c_long > 0  or  p <= 0)
        down = rate clip(-c_short / 2 e_short, 0, 1)
               if -c_short / e_short > down_evidence  and  z < down_trend  and  p > 0
        delta = up - down

    Minibatch noise hides a weak agreement from the short horizon, and the long one is
    late to see an agreement end. So the long one votes and the short one has a veto.
    The heading shows what both miss: a minimum that moves on, and a rate that is too
    low under a filter without memory, whose steps are opposed at every rate. With
    momentum, opposition is a veto on the heading too: along a narrow valley the way is
    right, but the steps across it are too long.

    Agreement says "too low" reliably. Opposition alone does not say "too high": sound
    rates of noisy and of curvature-limited runs have as much of it as rates ten times
    too high. So opposition counts only if the loss rises and p > 0: a filter without
    memory turns with its gradient, and is opposed at its best rate.

    Below `Standing.trusted_log_scale` (the base rate, or what is left of it after a
    failure) one standard error is enough to go up.

    Args:
      config: The other numbers. ``rate`` is the largest change of the log gain, > 0;
        ``down_evidence`` the standard errors needed to lower it, >= 0, infinite
        for never; ``down_trend`` the trend z below which opposition counts. With 1 it
        also counts while the loss is level, which anneals a run that has settled.
      up_evidence: Standard errors needed to raise the gain, >= 0; infinite for never.

    Returns:
      A `Rule` without state. It holds where no alignment could be measured, and for
      the first three steps after a start or a restore.

    Raises:
      ValueError: If ``rate`` is not positive or an evidence is negative.

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
    c = config
    _checks.positive("rate", c.rate, example="alignment(Nudge(rate=0.02))")
    _checks.evidence("up_evidence", up_evidence, example="alignment(up_evidence=3.0)")
    _checks.evidence(
        "down_evidence", c.down_evidence, example="alignment(Nudge(down_evidence=1.0))"
    )

    def init():
        return ()

    def update(signals, state):
        agreement, heading, own = signals.alignment, signals.heading, signals.standing
        carries = signals.step_correlation.mean > 0
        votes = jnp.stack([agreement.slow - c.margin, -agreement.mean, heading.slow])
        errors = jnp.stack([agreement.slow_sem, agreement.sem, heading.slow_sem])
        z_up, z_down, z_ahead = votes / errors
        below = (own.log_scale < own.trusted_log_scale) & (up_evidence < jnp.inf)
        needed = jnp.where(below, jnp.minimum(up_evidence, c.returning), up_evidence)
        up = jnp.where(
            (z_up > needed) & (agreement.mean > c.margin),
            c.rate * jnp.clip(z_up / c.full_vote, 0.0, 1.0),
            0.0,
        )
        ahead = c.headed * c.rate * jnp.clip(z_ahead / c.full_vote, 0.0, 1.0)
        sound = (agreement.slow > 0) | ~carries
        up = jnp.maximum(up, jnp.where((z_ahead > up_evidence) & sound, ahead, 0.0))
        overshoots = carries & (signals.objective.trend < c.down_trend)
        down = jnp.where(
            (z_down > c.down_evidence) & overshoots,
            c.rate * jnp.clip(z_down / c.full_vote, 0.0, 1.0),
            0.0,
        )
        delta = jnp.where(_answer.may_vote(signals), up - down, 0.0).astype(jnp.float32)
        return jnp.where(jnp.isfinite(delta), delta, 0.0), state

    return Rule(init, update)
