"""The equations of the theory without any change, for comparison.

    alpha' = alpha · f_alpha(dl, v, dr)     log f_alpha = log(up or down) / (1 + λ v)
    mu'    = mu    + f_mu(dl, v, dr)        f_mu        = ± step / (1 + λ v)
    sigma' = sigma · f_sigma(success, v)    log f_sigma = log(up) or log(down)

dl and dr are raw differences of one step's loss and reward from the last. Up where
sign(-dl) + sign(dr) > 0, down where it is < 0, hold where it is 0.
"""

import jax
import jax.numpy as jnp

from adaptive_optax import _checks
from adaptive_optax._types import Rule, RuleState, Signals
from adaptive_optax.rules import _answer


def literal(
    control: str = "learning_rate",
    *,
    up: float = 1.02,
    down: float = 0.8,
    damping: float = 1.0,
    step: float = 0.001,
    low: float = 0.2,
    calm: float = 2.0,
) -> Rule:
    """Drive one gain by the unsmoothed law of the theory.

    ``"learning_rate"``: up by ``up`` when the loss is below the last one (or the reward
    above it; the signs add), down by ``down`` when it is worse, both damped in the log
    by 1 / (1 + damping · v). ``"momentum"``: the same vote times ± ``step``, added to μ
    itself, so the gain must be driven in its linear coordinate. ``"sigma"``: down where
    v > calm, else up where the success share is under ``low``. It is not damped,
    because damping by v would weaken the answer to v.

    This is no default because it has a known weakness. With minibatch noise a step
    improves about every other time, and ½ log 1.02 + ½ log 0.8 < 0. So the undamped
    learning rate halves about every 7 steps, whatever the run does. `trend` is the same
    idea, measured against a standard error.

    Args:
      control: ``"learning_rate"``, ``"momentum"`` or ``"sigma"``.
      up: u, the factor on an improvement; at least 1. Not used for the momentum.
      down: d, the factor otherwise; in (0, 1]. Not used for the momentum.
      damping: λ, the weight of v; at least 0. Not used for sigma. v is
        `Series.variance_ratio`, because the raw variance has the square of the loss's
        unit.
      step: Change of μ per vote, above 0. Momentum only.
      low: Success share under which the run is stuck, in [0, 1]. Sigma only.
      calm: Variance ratio above which the run is unstable, at least 0. Sigma only.

    Returns:
      A `Rule` without state. A loss or reward that did not come does not vote. Without
      either, and at a restore, the rule holds.

    Raises:
      TypeError: If an argument is not a number.
      ValueError: If one is outside its range, or ``control`` is unknown.

    Example:
      >>> from adaptive_optax import rules
      >>> rule = rules.literal("learning_rate", damping=0.5)

    References:
      T. P. Vogl et al., *Accelerating the convergence of the back-propagation method*,
      1988: the "bold driver", the full-batch ancestor of f_alpha, without damping,
      reward, or the laws for μ and σ.
    """
    _checks.one_of("control", control, ("learning_rate", "momentum", "sigma"))
    _checks.within("up", up, 1.0, example="up=1.02")
    _checks.within("down", down, 0.0, 1.0, open_low=True, example="down=0.8")
    _checks.within("damping", damping, 0.0, example="damping=1.0")
    _checks.positive("step", step, example="step=0.001")
    _checks.within("low", low, 0.0, 1.0, example="low=0.2")
    _checks.within("calm", calm, 0.0, example="calm=2.0")

    def vote(signals: Signals) -> tuple[jax.Array, jax.Array]:
        dl, dr = signals.loss.change, signals.reward.change
        loss_came = _answer.heard(signals.loss.arrived, dl)
        reward_came = _answer.heard(signals.reward.arrived, dr)
        choice = jnp.where(loss_came, jnp.sign(-dl), 0.0)
        choice = choice + jnp.where(reward_came, jnp.sign(dr), 0.0)
        return choice, loss_came | reward_came

    def law(signals: Signals) -> tuple[jax.Array, jax.Array]:
        v = signals.loss.variance_ratio
        if control == "sigma":
            stuck = signals.loss.success < low
            choice = jnp.where(v > calm, -1, jnp.where(stuck, 1, 0))
            heard = _answer.heard(signals.loss.arrived, v, signals.loss.success)
            return _answer.by_vote(choice, up, down), heard
        choice, heard = vote(signals)
        if control == "momentum":
            move = step * jnp.sign(choice)
        else:
            move = _answer.by_vote(choice, up, down)
        return move / (1.0 + damping * v), heard & jnp.isfinite(v)

    def init() -> RuleState:
        return ()

    def update(signals: Signals, state: RuleState) -> tuple[jax.Array, RuleState]:
        delta, heard = law(signals)
        allowed = heard & jnp.logical_not(signals.standing.restored)
        return _answer.hold_unless(allowed, delta, state, state)

    return Rule(init, update)
