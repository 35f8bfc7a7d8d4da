"""The vocabulary of the control loop: what is measured, and what a rule may ask for.

A step's measurements are `Signals`. A `Rule` answers with a change that is added to
one gain's unconstrained coordinate (see `act.controls`). So "hold" is exactly 0, and a
blend of rules is a convex sum.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from adaptive_optax._reasons import EventKind, Reason, because

UNSET = np.finfo(np.float32).max
"""Stands for a level that is not known yet, and for a limit that is none.

An infinity would stop a sound run under `jax_debug_infs`. No feedback is as large: the
sensor takes more than 1e37 for not finite.
"""

RuleState = Any
"""A NamedTuple of strongly typed arrays of fixed shape, or `()`."""


QUICK = 0.9
"""The decay of the mean over a short horizon of an alignment, and of the others."""


class Series(NamedTuple):
    """Statistics of the loss or the reward. f32[] unless a comment says otherwise.

    A positive trend or drop means *better*: a loss that falls, a reward that rises. If
    a value did not arrive, or was not finite, the last one stays. Only ``value``,
    ``change``, the means and ``noise`` depend on the scale of the loss.
    """

    arrived: jax.Array  # bool[] a finite value came with this step
    value: jax.Array  # the last finite one
    change: jax.Array  # its difference from the one before, 0 without one
    fast: jax.Array  # mean, short horizon
    slow: jax.Array  # mean, long horizon
    noise: jax.Array  # standard deviation of one value around its trend
    trend: jax.Array  # z = (slow - fast) / its standard error
    long_trend: jax.Array  # the same z over horizons that grow with the run
    drop: jax.Array  # share of the first value by which it has improved since
    variance_ratio: jax.Array  # noise variance over its own long run; 1 = as usual
    success: jax.Array  # share of recent values better beyond noise, in [0, 1]
    count: jax.Array  # i32[] values since the start or a restore


class Cosine(NamedTuple):
    """Averaged cosines of two directions. f32[] unless a comment says otherwise."""

    arrived: jax.Array  # bool[] both had a direction at this step
    value: jax.Array  # at this step, in [-1, 1]
    mean: jax.Array  # short horizon: quick to see a change
    sem: jax.Array  # its standard error
    slow: jax.Array  # long horizon: can see a weak agreement
    slow_sem: jax.Array  # its standard error
    count: jax.Array  # i32[] cosines since the start or a restore


class Limits(NamedTuple):
    """Which batches a step does not learn from. Scalars."""

    loss: Any = UNSET  # f32[] an objective above it is far outside
    dead_norm: Any = np.float32(0.0)  # f32[] a gradient smaller than it has died, ...
    dead_loss: Any = UNSET  # ... f32[] if the objective is above this
    norm: Any = UNSET  # f32[] a gradient above it is far outside, ...
    better: Any = -UNSET  # ... f32[] unless the objective is below this
    room: Any = np.True_  # bool[] another batch may be skipped

    def exceeded(self, objective: jax.Array, norm: jax.Array) -> jax.Array:
        """Whether a batch is far outside, bool[]; a skip needs ``room`` as well."""
        dead = (norm < self.dead_norm) & (objective > self.dead_loss)
        large = (norm > self.norm) & (objective >= self.better)
        return (objective > self.loss) | dead | large


class Standing(NamedTuple):
    """What the loop knows of one driven gain, and of the run."""

    log_scale: Any = np.float32(0.0)  # the gain's coordinate minus its start
    trusted_log_scale: Any = np.float32(0.0)  # 0, lower after a failure or a cut
    warming: Any = np.False_  # bool[] the rate still rises
    failures: Any = np.int32(0)  # i32[] starts that were thrown away
    restored: Any = np.False_  # bool[] parameters go back at this step

    def of_others(self) -> "Standing":
        """The part that also holds for the other gains: what concerns the run."""
        return Standing()._replace(
            warming=self.warming, failures=self.failures, restored=self.restored
        )


class Signals(NamedTuple):
    """What one step has measured, and the standing of the gain that the rule drives.

    ``objective`` is the loss, or the negative reward once there has been one: the loss
    of a policy gradient is a surrogate, and its level does not measure success.
    """

    count: jax.Array  # i32[] updates before this one
    loss: Series
    reward: Series  # higher is better
    objective: Series  # what is judged, lower is better
    # The gradient.
    has_gradient: jax.Array  # bool[] every entry of the gradient is finite
    grad_norm: jax.Array  # f32[] global L2 norm
    grad_norm_z: jax.Array  # f32[] z-score of its logarithm; > 0: larger than usual
    dog_step_size: jax.Array  # f32[] max |theta - theta_0| / sqrt(sum |g|^2)
    # With `Law.large` the next two are times `sense.gradient.weight`.
    alignment: Cosine  # cos(-g, the last step)
    heading: Cosine  # cos(-g, the way from the mean of the run's last third)
    step_correlation: Cosine  # of successive steps; mean near 1: momentum
    standing: Standing  # of the gain that the rule drives


class RuleInit(Protocol):
    """Makes a rule's first state."""

    def __call__(self) -> RuleState: ...


class RuleUpdate(Protocol):
    """Answers one step's signals with a change of the coordinate."""

    def __call__(
        self, signals: Signals, state: RuleState, /
    ) -> tuple[jax.Array, RuleState]: ...


class RuleWhy(Protocol):
    """Answers like `RuleUpdate`, and says why."""

    def __call__(
        self, signals: Signals, state: RuleState, /
    ) -> tuple[jax.Array, RuleState, Reason]: ...


class Rule(NamedTuple):
    """A control law for one gain: two pure functions.

    ``init() -> state`` and ``update(signals, state) -> (delta, state)``, where
    ``delta`` is a float32 scalar added to the gain's unconstrained coordinate (log of
    the learning rate, log of sigma, log horizon of the momentum). 0 holds the gain bit
    for bit. Rules read `Signals` and nothing else: no parameters, no gains.

    A rule may have a third one, ``why``: the same answer and the `Reason` for it, which
    the run's events then tell. Without it they tell that the rate rose or fell.

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
    why: RuleWhy | None = None

    def answer(
        self, signals: Signals, state: RuleState
    ) -> tuple[jax.Array, RuleState, Reason]:
        """The change, the next state, and the reason for the change."""
        if self.why is not None:
            return self.why(signals, state)
        delta, state = self.update(signals, state)
        raised, lowered = EventKind.RAISED, EventKind.LOWERED
        return (
            delta,
            state,
            because(True, raised, delta)._replace(
                kind=jnp.where(delta > 0, raised, lowered).astype(jnp.int32)
            ),
        )


def reasoned(init: RuleInit, why: RuleWhy) -> Rule:
    """A rule of a function that says why."""
    return Rule(init, lambda signals, state: why(signals, state)[:2], why)


Schedule = Callable[[jax.Array], jax.Array]
"""An Optax schedule: step count -> value."""
