r"""The filter Φ: momentum, Adam and AdaGrad whose momentum may change at every step.

Every average here is normalised, m ← μ m + (1 − μ) g, and the debiased ones are divided
by 1 − Π μ, the product of the decays that were in force. So m never leaves the range of
what was averaged, and moving μ never enlarges a step. Optax corrects with today's
decay, 1 − μᵗ, and its heavy ball is a sum. That is right while μ is constant, and then
these filters equal it. With μ raised from 0.9 to 0.999 at step 50, Optax's steps grow
20 times at once (Adam) and 100 times in the end (the heavy ball).

Everything is computed in float32 at least; updates have the gradient's dtype.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from adaptive_optax import _checks
from adaptive_optax.act import moments as _moments
from adaptive_optax.act.moments import Gain


def momentum_sgd(
    learning_rate: Gain,
    momentum: Gain = 0.9,
    *,
    nesterov: bool = False,
    base_momentum: float | jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD with a heavy ball whose step keeps its size when the momentum moves.

    .. math::
        m_t = \mu_t m_{t-1} + (1 - \mu_t) g_t, \qquad
        \Delta\theta_t = -\frac{\alpha_t}{1 - \mu_0} m_t

    With a constant momentum this is ``optax.sgd(learning_rate, momentum)``. The usual
    sum m ← μ m + g was rejected for a moving μ: its steady step is α g / (1 − μ), 10
    times larger the moment μ goes from 0.9 to 0.99 for good.

    Args:
      learning_rate: α ≥ 0; a number, a schedule or an array.
      momentum: μ in [0, 1); a number, a schedule or an array.
      nesterov: Look ahead: use μ m + (1 − μ) g in place of m.
      base_momentum: μ₀ in [0, 1), the momentum that ``learning_rate`` was chosen for.
        By default the momentum at ``init`` (a schedule's at step 0), which is kept.

    Returns:
      A transformation whose state holds one average per parameter, in float32 for
      parameters below float32.

    Raises:
      TypeError: If an argument is not a number, a schedule or an array.
      ValueError: If a number lies outside its range.

    Example:
      >>> tx = momentum_sgd(0.1, momentum=0.9)
      >>> import jax.numpy as jnp
      >>> params = jnp.ones(2)
      >>> updates, state = tx.update(params, tx.init(params))
      >>> print(updates)
      [-0.1 -0.1]

    References:
      Sutskever, Martens, Dahl, Hinton, On the importance of initialization and momentum
      in deep learning, 2013, equations 1 to 4; normalised here, see above.
    """
    _check_gain("learning_rate", learning_rate, example="learning_rate=0.1")
    _check_decay("momentum", momentum, example="momentum=0.9")
    if base_momentum is not None:
        _check_decay("base_momentum", base_momentum, example="base_momentum=0.9")

    return _moments.chain_raised(
        _moments.heavy_ball(momentum, nesterov, base_momentum),
        optax.scale_by_learning_rate(learning_rate),
    )


def adam(
    learning_rate: Gain,
    b1: Gain = 0.9,
    b2: Gain = 0.999,
    eps: float | jax.Array = 1e-8,
    eps_root: float | jax.Array = 0.0,
    *,
    weight_decay: float | jax.Array = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam with exact bias correction under moving decays.

    .. math::
        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad
        w_t = \beta_1 w_{t-1} + (1 - \beta_1), \quad \hat m_t = m_t / w_t

        \Delta\theta_t = -\alpha \left(
        \frac{\hat m_t}{\sqrt{\hat v_t + \bar\epsilon} + \epsilon}
        + \lambda \theta_t \right)

    with v̂ the same of ``|g|²`` and β₂. Equal to ``optax.adam`` while β₁ is constant.

    Args:
      learning_rate: α ≥ 0; a number, a schedule or an array.
      b1: β₁ in [0, 1); a number, a schedule or an array.
      b2: β₂ in [0, 1); likewise.
      eps: ε ≥ 0, outside the root.
      eps_root: ε̄ ≥ 0, inside the root.
      weight_decay: λ ≥ 0, decoupled as in AdamW; ``update`` then needs the parameters.
      mask: Which leaves decay, as in ``optax.adamw``.

    Returns:
      A transformation whose state holds two averages per parameter, in float32 for
      parameters below float32.

    Raises:
      TypeError: If an argument is not a number, a schedule or an array.
      ValueError: If a number lies outside its range.

    Example:
      >>> tx = adam(0.1, b1=optax.linear_schedule(0.9, 0.99, 100))
      >>> import jax.numpy as jnp
      >>> params = jnp.ones(2)
      >>> updates, state = tx.update(params, tx.init(params))
      >>> print(updates)
      [-0.1 -0.1]

    References:
      Kingma, Ba, Adam: a method for stochastic optimization, 2015, algorithm 1; with
      the correction by products of decays. Loshchilov, Hutter, Decoupled weight decay
      regularization, 2019.
    """
    _check_gain("learning_rate", learning_rate, example="learning_rate=1e-3")
    _check_decay("b1", b1, example="b1=0.9")
    _check_decay("b2", b2, example="b2=0.999")
    _check_gain("eps", eps, example="eps=1e-8")
    _check_gain("eps_root", eps_root, example="eps_root=0.0")
    _check_gain("weight_decay", weight_decay, example="weight_decay=1e-4")

    none = isinstance(weight_decay, int | float) and weight_decay == 0
    decay = optax.identity() if none else optax.add_decayed_weights(weight_decay, mask)
    return _moments.chain_raised(
        _moments.adam_moments(b1, b2, eps, eps_root),
        decay,
        optax.scale_by_learning_rate(learning_rate),
    )


def adamw(
    learning_rate: Gain,
    b1: Gain = 0.9,
    b2: Gain = 0.999,
    eps: float | jax.Array = 1e-8,
    eps_root: float | jax.Array = 0.0,
    *,
    weight_decay: float | jax.Array = 1e-4,
    mask: Any | Callable[[optax.Params], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`adam` with decoupled weight decay on by default, as ``optax.adamw``.

    Args:
      learning_rate: See `adam`.
      b1: See `adam`.
      b2: See `adam`.
      eps: See `adam`.
      eps_root: See `adam`.
      weight_decay: λ ≥ 0.
      mask: Which leaves decay; all by default.

    Returns:
      The transformation of `adam`; its ``update`` needs the parameters.

    Raises:
      ValueError: As `adam`, and TypeError likewise.

    Example:
      >>> tx = adamw(1e-3, weight_decay=0.1, mask={"kernel": True, "bias": False})

    References:
      I. Loshchilov, F. Hutter, *Decoupled weight decay regularization*, 2019.
    """
    return adam(
        learning_rate, b1, b2, eps, eps_root, weight_decay=weight_decay, mask=mask
    )


def adagrad(
    learning_rate: Gain,
    momentum: Gain = 0.0,
    initial_accumulator_value: float | jax.Array = 0.1,
    eps: float | jax.Array = 1e-7,
) -> optax.GradientTransformationExtraArgs:
    r"""AdaGrad, with a debiased momentum over the preconditioned gradients.

    .. math::
        s_t = s_{t-1} + |g_t|^2, \quad p_t = g_t / \sqrt{s_t + \epsilon}, \quad
        m_t = \mu_t m_{t-1} + (1 - \mu_t) p_t, \quad
        \Delta\theta_t = -\alpha\, m_t / w_t

    Equal to ``optax.adagrad`` at μ = 0, which keeps one array per parameter less. As m
    is an average of past p, no step exceeds the largest p so far.

    Args:
      learning_rate: α ≥ 0; a number, a schedule or an array.
      momentum: μ in [0, 1); a number, a schedule or an array.
      initial_accumulator_value: s₀ ≥ 0.
      eps: ε ≥ 0, inside the root.

    Returns:
      A transformation whose state holds two arrays per parameter, in float32 for
      parameters below float32.

    Raises:
      TypeError: If an argument is not a number, a schedule or an array.
      ValueError: If a number lies outside its range.

    Example:
      >>> tx = adagrad(0.1, momentum=0.9)

    References:
      Duchi, Hazan, Singer, Adaptive subgradient methods for online learning and
      stochastic optimization, 2011; the momentum is an addition.
    """
    _check_gain("learning_rate", learning_rate, example="learning_rate=0.1")
    _check_decay("momentum", momentum, example="momentum=0.9")
    _check_gain(
        "initial_accumulator_value",
        initial_accumulator_value,
        example="initial_accumulator_value=0.1",
    )
    _check_gain("eps", eps, example="eps=1e-7")
    return _moments.chain_raised(
        optax.scale_by_rss(initial_accumulator_value, eps),
        _moments.debiased_momentum(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )


NORMALISED = (momentum_sgd, adam, adamw, adagrad)
"""Filters whose steps do not grow with a momentum that moves."""


def _check_gain(name: str, value: Any, *, example: str) -> None:
    # An array is what a controller injects, at every step: reading it would wait for
    # the device, and a schedule is known only later.
    if not callable(value) and not isinstance(value, jax.Array):
        _checks.within(name, value, 0.0, example=example)


def _check_decay(name: str, value: Any, *, example: str) -> None:
    if not callable(value) and not isinstance(value, jax.Array):
        _checks.within(name, value, 0.0, 1.0, open_high=True, example=example)
