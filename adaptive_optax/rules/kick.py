"""One step of noise where the loss is level and nothing holds the parameters there."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, Signals
from adaptive_optax.law import Law, checked
from adaptive_optax.rules import _answer

SUCCESSES = 0.2
STILL = 1e-4  # of the loss: less than that is no motion
LONGEST = 2**30
TO_A_BOUND = 200.0  # more than the log of any float32 over any other


class KickState(NamedTuple):
    """State of `kick`."""

    kick_wait: jax.Array  # i32[] steps on a plateau since the last kick
    kick_patience: jax.Array  # i32[] steps on a plateau before the next one


def kick(law: Law = Law(), *, patience: int = 50) -> Rule:  # noqa: B008
    """Raise sigma to its upper bound for one step, to leave a saddle or a plateau.

    With z the objective's trend over short means, z_long its long trend, a the heading
    and e_a its standard error, a step is *level* if a >= -hint e_a, and::

        |z| <= hint, z_long < clear, and success < 1/5
        or  |slow - fast| and the noise are both within 1e-4 of |fast|

    where success is the share of recent losses that were better beyond noise, and fast
    and slow are the means of the loss.

    After ``patience`` level steps sigma goes to its upper bound for one step, then back
    to its lower one. The patience doubles with each kick. So there are at most
    log2(1 + t / patience) kicks in t steps, and none while the loss falls.

    A run at its minimum is as level as one at a saddle, but its parameters wander and
    are drawn back: the heading is negative, and there is no kick. At a saddle the
    gradient is zero or noise, and nothing draws back.

    The second case is a run without noise that has stopped. Its trends stay significant
    for hundreds of steps, because the noise fades faster than the mean forgets.

    A constant sigma was rejected: it leaves a saddle as well, and keeps every later
    loss above a floor.

    Args:
      law: Its numbers: ``hint`` and ``clear``, in standard errors.
      patience: Level steps before the first kick, >= 1.

    Returns:
      A `Rule` for sigma. Its answer takes the gain to a bound, whatever the bounds are.
      It holds without a loss or a reward, so a kick lasts until the next one comes; it
      does not count in the warm-up or at a restore.

    Raises:
      TypeError: If ``law`` is no `Law` or ``patience`` no integer.
      ValueError: If ``patience`` is below 1.

    Example:
      >>> import optax
      >>> import adaptive_optax as ao
      >>> tx = ao.adaptive_scheduler(
      ...     optax.adam, 1e-3, sigma_rule=ao.rules.kick(patience=100)
      ... )

    References:
      Jin, Ge, Netrapalli, Kakade, Jordan, How to escape saddle points efficiently,
      2017: one perturbation where the gradient is small and none was made lately. There
      the threshold is on the norm, in units of the problem; here the loss is level in
      units of its own noise.
    """
    checked(law)
    _checks.whole("patience", patience, 1, example="kick(patience=50)")

    def init() -> KickState:
        return KickState(
            kick_wait=jnp.zeros((), jnp.int32),
            kick_patience=jnp.asarray(patience, jnp.int32),
        )

    def update(signals: Signals, state: KickState) -> tuple[jax.Array, KickState]:
        judged, heading, own = signals.objective, signals.heading, signals.standing
        level = (jnp.abs(judged.trend) <= law.hint) & (judged.long_trend < law.clear)
        level &= judged.success < SUCCESSES
        moved = jnp.maximum(jnp.abs(judged.slow - judged.fast), judged.noise)
        level |= moved <= STILL * jnp.abs(judged.fast)
        level &= heading.slow >= -law.hint * heading.slow_sem
        level &= (judged.count > law.readings) & ~own.warming
        wait = state.kick_wait + level.astype(jnp.int32)
        now = wait >= state.kick_patience
        doubled = jnp.minimum(state.kick_patience, LONGEST // 2) * 2
        back = jnp.where(own.log_scale > 0, -TO_A_BOUND, 0.0)
        return _answer.hold_unless(
            _answer.heard(
                judged.arrived & ~own.restored,
                *(judged.trend, judged.long_trend, judged.success),
                *(judged.fast, judged.slow, judged.noise),
                *(heading.slow, heading.slow_sem),
            ),
            jnp.where(now, TO_A_BOUND, back),
            KickState(
                kick_wait=jnp.where(now, 0, wait),
                kick_patience=jnp.where(now, doubled, state.kick_patience),
            ),
            state,
        )

    return Rule(init, update)
