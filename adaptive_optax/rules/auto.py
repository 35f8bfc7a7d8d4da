"""The rules that ``"auto"`` stands for, and the check of what is given as a rule."""

from typing import Any

import jax

from adaptive_optax._types import Rule
from adaptive_optax.law import Law
from adaptive_optax.rules.kick import kick
from adaptive_optax.rules.momentum import momentum
from adaptive_optax.rules.success import success

NAMED = ("momentum_rule", "sigma_rule")


def check(name: str, rule: Any) -> None:
    """Require a `Rule` or None, or where there is one to be named, ``"auto"``.

    Raises:
      TypeError: If it is something else.
      ValueError: If it is another name.
    """
    if name in NAMED and isinstance(rule, str):
        if rule != "auto":
            raise ValueError(
                f'`{name}` must be a Rule or "auto", got {rule!r}; try {name}="auto".'
            )
    elif rule is not None and not isinstance(rule, Rule):
        raise TypeError(
            f"`{name}` must be a Rule, got {rule!r}; try {name}=rules.trend()."
        )


def momentum_rule_of(rule: Any, law: Law) -> Rule | None:
    """The momentum's rule: the one that is given, or `momentum`."""
    return momentum(law) if isinstance(rule, str) else rule


def sigma_of(
    rule: Any, sigma: Any, bounds: tuple[float, float], law: Law, dithers: bool
) -> tuple[Rule | None, Any, tuple[Any, Any]]:
    """Sigma's rule, its start and its bounds.

    A kick takes sigma to its upper bound and back to its lower one, where it starts. So
    under ``"auto"`` a sigma that is given is the upper bound.
    """
    if isinstance(rule, str):
        given = isinstance(sigma, jax.Array) or sigma > 0
        return kick(law), bounds[0], (bounds[0], sigma if given else bounds[1])
    return success() if rule is None and dithers else rule, sigma, bounds
