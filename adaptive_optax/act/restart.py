"""Restarts of the momentum: what a filter has gathered is set to zero.

A restart keeps the parameters and all other moments (O'Donoghue, Candes, 2015). A rule
of the momentum asks for one by counting it in its state, in a field that is called
``momentum_restarts``. A step at which nothing is decided leaves the state as it was,
and so asks for nothing.

Which arrays of an optimizer's state are the momentum's buffer is read from the
optimizer itself: they start the same whatever the parameters are, and their next value
depends on the momentum and on the gradient. Adam's first moment is such an array, its
second is not. A weight that counts what was gathered (`moments.AdamMomentsState`)
depends on no gradient, and Optax corrects by the step count; both stay. So the steps
after a restart are small, and grow as the buffer fills.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptive_optax._types import Rule, RuleState
from adaptive_optax.act.injection import Gains, Inner
from adaptive_optax.freeze.backward.liveness import reached
from adaptive_optax.freeze.backward.program import UnsupportedEquation, flatten

FIELD = "momentum_restarts"


def asked(now: RuleState, before: RuleState) -> Any:
    """Whether a rule has asked for a restart at this step, bool[]."""
    counts = [
        (a, b) for (_, a), (_, b) in zip(_counts(now), _counts(before), strict=True)
    ]
    return sum((a > b for a, b in counts), jnp.zeros((), bool))


def restarting(inner: Inner, rule: Rule | None) -> Inner:
    """The optimizer, whose buffer is emptied where the rule asks for it."""
    if rule is None or not _counts(jax.eval_shape(rule.init)):
        return inner

    def update(grads, state, params, gains, /, **extra):
        leaves, structure = jax.tree.flatten(state)
        found = buffers(inner, grads, state, params, gains, extra)
        leaves = [
            jnp.where(gains.forget, jnp.zeros_like(leaf), leaf) if is_buffer else leaf
            for leaf, is_buffer in zip(leaves, found, strict=True)
        ]
        return inner.update(grads, structure.unflatten(leaves), params, gains, **extra)

    return inner._replace(update=update)


def buffers(
    inner: Inner,
    grads: Any,
    state: Any,
    params: Any,
    gains: Gains,
    extra: dict[str, Any],
) -> list[bool]:
    """For every leaf of the state, whether it is a buffer of the momentum.

    An optimizer whose program cannot be read (it has ordered effects) has none.
    """

    def after(momentum: jax.Array, grads: Any) -> Any:
        now = gains._replace(momentum=momentum)
        return inner.update(grads, state, params, now, **extra)[1]

    like = grads if params is None else params
    try:
        step = flatten(jax.make_jaxpr(after)(gains.momentum, grads))
        first = flatten(jax.make_jaxpr(inner.init)(like))
    except UnsupportedEquation:
        return [False] * len(jax.tree.leaves(state))
    momentum, *gradient = step.inputs
    return [
        bool(by_momentum and by_gradient and not by_parameters)
        for by_momentum, by_gradient, by_parameters in zip(
            reached(step, [momentum]),
            reached(step, gradient),
            reached(first, first.inputs),
            strict=True,
        )
    ]


def _counts(state: RuleState) -> list[tuple[Any, Any]]:
    return optax.tree.get_all_with_path(state, FIELD)
