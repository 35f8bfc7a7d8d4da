"""Ready-made optimizers: a filter of ours and the controller, in one call."""

import functools
from typing import Any

import optax

from adaptive_optax import _arguments
from adaptive_optax._signatures import takes_options_of
from adaptive_optax._types import Schedule
from adaptive_optax.act import filters
from adaptive_optax.scheduler import adaptive_scheduler

Rate = float | Schedule

takes_options = functools.partial(takes_options_of, adaptive_scheduler)
"""Writes the scheduler's options into a signature; see `takes_options_of`."""


@takes_options("momentum")
def adaptive_sgd(
    learning_rate: Rate = 1e-2,
    momentum: float = 0.9,
    *,
    nesterov: bool = False,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Self-regulating SGD with momentum.

    While its gains hold it is `optax.sgd(learning_rate, momentum)`. A moving momentum
    does not change the size of its steps: see `filters.momentum_sgd`.

    Args:
      learning_rate: Base rate, > 0, or a schedule.
      momentum: Base momentum, in [0, 1).
      nesterov: Look ahead, as in `optax.sgd`.
      **options: Of `adaptive_scheduler`.

    Returns:
      A transformation; feed it with ``update(grads, state, params, value=loss)``.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If an argument lies outside its domain.

    Example:
      >>> tx = adaptive_sgd(0.1, mode="search")

    References:
      B. T. Polyak, *Some methods of speeding up the convergence of iteration methods*,
      1964; the loop is docs/law.md.
    """
    factory = functools.partial(
        filters.momentum_sgd, nesterov=nesterov, base_momentum=momentum
    )
    return adaptive_scheduler(factory, learning_rate, momentum=momentum, **options)


@takes_options("momentum")
def adaptive_adam(
    learning_rate: Rate = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Self-regulating Adam.

    While its gains hold it is `optax.adam`; a moving ``b1`` is debiased exactly: see
    `filters.adam`.

    Args:
      learning_rate: Base rate, > 0, or a schedule.
      b1: Base momentum, in [0, 1).
      b2: Decay of the second moment, in [0, 1).
      eps: Added to its root, >= 0.
      **options: Of `adaptive_scheduler`.

    Returns:
      A transformation; feed it with ``update(grads, state, params, value=loss)``.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If an argument lies outside its domain.

    Example:
      >>> tx = adaptive_adam(1e-3, freeze_threshold=1e-4)

    References:
      D. P. Kingma, J. Ba, *Adam: a method for stochastic optimization*, 2015; the loop
      is docs/law.md.
    """
    factory = functools.partial(filters.adam, b2=b2, eps=eps)
    return adaptive_scheduler(factory, learning_rate, momentum=b1, **options)


@takes_options("momentum")
def adaptive_adamw(
    learning_rate: Rate = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    mask: Any = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Self-regulating AdamW: `adaptive_adam` with decoupled weight decay.

    Args:
      learning_rate: Base rate, > 0, or a schedule; it scales the decay too.
      b1: Base momentum, in [0, 1).
      b2: Decay of the second moment, in [0, 1).
      eps: Added to its root, >= 0.
      weight_decay: Decay per unit of learning rate, >= 0.
      mask: Which leaves decay, as in `optax.adamw`.
      **options: Of `adaptive_scheduler`.

    Returns:
      A transformation; feed it with ``update(grads, state, params, value=loss)``.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If an argument lies outside its domain.

    Example:
      >>> tx = adaptive_adamw(3e-4, weight_decay=0.1, total_steps=10_000)

    References:
      I. Loshchilov, F. Hutter, *Decoupled weight decay regularization*, 2019; the loop
      is docs/law.md.
    """
    factory = functools.partial(
        filters.adamw, b2=b2, eps=eps, weight_decay=weight_decay, mask=mask
    )
    return adaptive_scheduler(factory, learning_rate, momentum=b1, **options)


def restore_on_divergence(
    inner: optax.GradientTransformation, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """Only the safety net: watch any optimizer, and undo a divergence.

    Parameters and optimizer state return to the last good ones and later updates are
    scaled down if it happens again: see `supervise.trial`. Nothing else
    moves the rate and nothing is averaged; it is `adaptive_scheduler` in its safe mode.

    Args:
      inner: A built transformation, or a factory with ``learning_rate=`` among the
        options.
      **options: Of `adaptive_scheduler`, but ``mode`` and ``law``; ``recovery`` may not
        be False.

    Returns:
      A transformation; feed it with ``update(grads, state, params, value=loss)``.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If an argument lies outside its domain.

    Example:
      >>> tx = restore_on_divergence(optax.adam(1e-3))

    References:
      docs/law.md, "Trial": the experiment that tells the rate's fault from the data's.
    """
    for option in {"mode", "law"} & options.keys():
        raise TypeError(
            "restore_on_divergence has a law of its own, got "
            f"`{option}`={options[option]!r}; try adaptive_scheduler(...)."
        )
    if options.get("recovery", True) is False:
        raise ValueError(
            "without a copy there is nothing to restore, got `recovery`=False; try "
            "recovery=ao.Recovery(inner=False)."
        )
    options = {"average": False, **options, "mode": "safe"}
    with _arguments.called("restore_on_divergence"):
        return adaptive_scheduler(inner, **options)
