"""Filters whose step promises no more than a batch is worth.

A step u promises to lower the loss l of its batch by -<g, u>, as far as a straight line
can tell. Where that is more than twice the loss, the step is made shorter::

    u <- u min(1, 2 l / -<g, u>)

A squared error that one example leaves is solved exactly by a promise of 2 l: this is
the projection of normalised LMS, and Polyak's step where the least loss is 0. A longer
step only overshoots. So a rate that is far too high costs a stream little before the
controller has lowered it, and steps at a sound rate are shorter than that.

The least loss is taken for 0: add a constant to one that ends below. Without a loss, at
one that is not positive, and where something is not finite, steps are left as they are.
A promise that is too large for float32 is worth no step at all.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _trees
from adaptive_optax._arguments import arrays, transformation
from adaptive_optax.act import filters
from adaptive_optax.act.moments import Gain

MOST = 2.0  # of a loss: what a step may promise


def momentum_sgd(
    learning_rate: Gain,
    momentum: Gain = 0.0,
    *,
    base_momentum: float | jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`filters.momentum_sgd`, limited by the loss.

    Args:
      learning_rate: See there.
      momentum: See there.
      base_momentum: See there.

    Returns:
      A transformation whose ``update`` takes the loss as ``value``.

    Raises:
      ValueError: As there, and TypeError likewise.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = momentum_sgd(10.0)
      >>> grads = jnp.array([3.0, 4.0])
      >>> print(tx.update(grads, tx.init(grads), value=jnp.float32(5.0))[0])
      [-1.2 -1.6]

    References:
      Loizou, Vaswani, Laradji, Lacoste-Julien, Stochastic Polyak step-size for SGD,
      2021, which has l* in place of 0 and limits every step by it. Nagumo, Noda, A
      learning method for system identification, 1967.
    """
    return limited(
        filters.momentum_sgd(learning_rate, momentum, base_momentum=base_momentum)
    )


def adagrad(
    learning_rate: Gain,
    momentum: Gain = 0.0,
    initial_accumulator_value: float | jax.Array = 0.1,
    eps: float | jax.Array = 1e-7,
) -> optax.GradientTransformationExtraArgs:
    """`filters.adagrad`, limited by the loss.

    Args:
      learning_rate: See there.
      momentum: See there.
      initial_accumulator_value: See there.
      eps: See there.

    Returns:
      A transformation whose ``update`` takes the loss as ``value``.

    Raises:
      ValueError: As there, and TypeError likewise.

    Example:
      >>> tx = adagrad(0.1)
    """
    return limited(
        filters.adagrad(learning_rate, momentum, initial_accumulator_value, eps)
    )


def limited(
    inner: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The same optimizer, with shorter steps where they promise too much.

    Args:
      inner: The optimizer; it does not see the loss.

    Returns:
      A transformation whose ``update`` takes the loss as ``value``.

    Example:
      >>> import jax.numpy as jnp
      >>> tx = limited(optax.with_extra_args_support(optax.sgd(1.0)))
      >>> grads = jnp.array([2.0])
      >>> print(tx.update(grads, tx.init(grads), value=0.5)[0])  # promised 4, worth 1
      [-0.5]
    """

    def update(updates, state, params=None, *, value=None, **extra):
        updates = arrays(updates)
        steps, state = inner.update(updates, state, params, **extra)
        return steps if value is None else _shorter(updates, steps, value), state

    return transformation(inner.init, update)


def _shorter(grads: Any, steps: Any, value: Any) -> Any:
    promised = -sum(map(_dot, jax.tree.leaves(grads), jax.tree.leaves(steps)), 0.0)
    worth = MOST * jnp.asarray(value, jnp.float32)
    over = (worth > 0) & (promised > worth)
    share = jnp.where(over, worth / jnp.where(over, promised, 1.0), 1.0)
    return jax.tree.map(lambda u: jnp.where(over, u * share, u).astype(u.dtype), steps)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """Inner product in float32 at least; a sum, for leaves that lie on many devices."""
    a, b = (leaf.astype(_trees.accumulator_dtype(leaf)) for leaf in (a, b))
    return jnp.sum(jnp.real(jnp.conj(a) * b)).astype(jnp.float32)


NORMALISED = (momentum_sgd, adagrad)
"""As `filters.NORMALISED`."""
