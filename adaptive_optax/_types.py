"""The vocabulary of the control loop: what is measured, and what a rule may ask for.

A step's measurements travel as `Signals`; a `Rule` answers with an additive change of
one gain's unconstrained coordinate (see `act.controls`), so that "hold" is exactly 0
and a blend of rules is a convex sum.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

RuleState = Any
"""A NamedTuple of strongly typed arrays of fixed shape, or `()`."""


class Signals(NamedTuple):
    """What one step has measured. Scalars are float32 unless a comment says otherwise.

    Every trend is signed so that positive means *better*. A measurement that did not
    arrive, or was not finite, keeps its last good value and has its `has_*` flag down.
    No entry that a rule decides on depends on the sign or the scale of the loss.
    """

    count: jax.Array  # i32[] updates before this one
    # The loss.
    has_value: jax.Array  # bool[] a finite loss came with this step
    value: jax.Array  # the last finite loss
    value_change: jax.Array  # its difference from the one before, 0 without one
    loss_fast: jax.Array  # EMA of the loss, short horizon
    loss_slow: jax.Array  # EMA of the loss, long horizon
    loss_noise: jax.Array  # standard deviation of one loss around its trend
    loss_trend: jax.Array  # z = (slow - fast) / its standard error; > 0: it falls
    loss_progress: jax.Array  # the same z over horizons that grow with the run
    loss_gain: jax.Array  # share of the first loss by which it has fallen since
    loss_count: jax.Array  # i32[] losses since the start or a restore
    loss_variance: jax.Array  # noise variance over its own long run; 1 = as usual
    success: jax.Array  # share of recent steps that improved beyond noise, in [0, 1]
    # The reward, higher is better.
    has_reward: jax.Array  # bool[]
    reward: jax.Array
    reward_change: jax.Array
    reward_trend: jax.Array  # z = (fast - slow) / its standard error; > 0: it rises
    # The gradient.
    has_gradient: jax.Array  # bool[] every entry of the gradient is finite
    grad_norm: jax.Array  # global L2 norm
    grad_norm_z: jax.Array  # z-score of its logarithm among recent ones; > 0: larger
    # The alignment of this gradient with the last step, cos(-g, last update).
    has_alignment: jax.Array  # bool[]
    alignment: jax.Array  # of this step, in [-1, 1]
    alignment_mean: jax.Array  # EMA, short horizon: quick to say stop
    alignment_sem: jax.Array  # its standard error
    alignment_slow: jax.Array  # EMA, long horizon: able to see a weak agreement
    alignment_slow_sem: jax.Array  # its standard error
    alignment_count: jax.Array  # i32[] values in it since the start or a restore
    persistence: jax.Array  # EMA of the cosine of successive steps; near 1: momentum
    # The heading, cos(-g, the way from the mean of the run's last third).
    heading: jax.Array  # EMA, long horizon
    heading_sem: jax.Array  # its standard error
    travel: jax.Array  # max |theta - theta_0| / sqrt(sum |g|^2): DoG's first rate
    # What the loop itself is doing.
    coordinate: jax.Array  # the driven gain's coordinate, minus where it started
    trusted: jax.Array  # the coordinate the prior trusts: 0, lower after a failure
    ceiling: jax.Array  # coordinate above which the run has diverged; inf: none yet
    warming: jax.Array  # bool[] the rate still rises, or has since the last loss
    failures: jax.Array  # i32[] starts that were thrown away
    restored: jax.Array  # bool[] parameters go back at this step, statistics restart


class RuleInit(Protocol):
    """Makes a rule's first state."""

    def __call__(self) -> RuleState: ...


class RuleUpdate(Protocol):
    """Answers one step's signals with a change of the coordinate."""

    def __call__(
        self, signals: Signals, state: RuleState, /
    ) -> tuple[jax.Array, RuleState]: ...


class Rule(NamedTuple):
    """A control law for one gain: two pure functions.

    ``init() -> state`` and ``update(signals, state) -> (delta, state)``, where
    ``delta`` is a float32 scalar added to the gain's unconstrained coordinate (log of
    the learning rate, log of sigma, log horizon of the momentum). 0 holds the gain bit
    for bit. Rules read `Signals` and nothing else: no parameters, no gains.

    Example:
      >>> import jax.numpy as jnp
      >>> warm = Rule(
      ...     init=lambda: (),
      ...     update=lambda signals, state: (
      ...         jnp.where(signals.count < 10, jnp.float32(0.1), 0.0), state
      ...     ),
      ... )
    """

    init: RuleInit
    update: RuleUpdate


Schedule = Callable[[jax.Array], jax.Array]
"""An Optax schedule: step count -> value."""
