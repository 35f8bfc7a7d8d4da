"""A Flax linen train state that lets the loss through to the optimizer.

Flax's own ``TrainState.apply_gradients`` passes on only gradients, so the controller
would get no loss. This subclass forwards ``value`` and ``reward``; everything else,
overwrite-with-gradient parameters included, stays Flax's. Flax nnx needs no such class:
``optimizer.update(model, grads, value=loss)`` forwards the loss already.
"""

import functools
from typing import Any, cast

import jax
import optax

from adaptive_optax._arguments import MISSING

try:
    from flax.training import train_state
except ImportError as error:
    raise ImportError(
        "`adaptive_optax.train_state` needs Flax; "
        'install it with pip install "adaptive_optax[flax]".'
    ) from error


class TrainState(train_state.TrainState):
    """`flax.training.train_state.TrainState` whose steps carry the feedback.

    Example:
      >>> import adaptive_optax as ao
      >>> import flax.linen as nn
      >>> import jax, jax.numpy as jnp, optax
      >>> from adaptive_optax.train_state import TrainState
      >>> model, x = nn.Dense(1), jnp.ones((4, 2))
      >>> state = TrainState.create(
      ...     apply_fn=model.apply,
      ...     params=model.init(jax.random.key(0), x)["params"],
      ...     tx=ao.adaptive_scheduler(optax.sgd, learning_rate=0.1),
      ... )
      >>> loss_fn = lambda p: jnp.mean(state.apply_fn({"params": p}, x) ** 2)
      >>> loss, grads = jax.value_and_grad(loss_fn)(state.params)
      >>> state = state.apply_gradients(grads=grads, value=loss)
      >>> bool(ao.snapshot(state.opt_state)["loss"] == loss)
      True
    """

    def apply_gradients(
        self,
        *,
        grads: Any,
        value: jax.Array | float | None = MISSING,
        reward: jax.Array | float | None = MISSING,
        **kwargs: Any,
    ) -> "TrainState":
        """Take one step, with the loss or the reward that came with the gradients.

        Args:
          grads: Gradients shaped like ``params``.
          value: The loss, a scalar; None says that this step has none.
          reward: A scalar, higher is better; likewise.
          **kwargs: Fields to replace, as in Flax.

        Returns:
          The train state after the step.
        """
        feedback = {"value": value, "reward": reward}
        feedback = {name: x for name, x in feedback.items() if x is not MISSING}
        update = optax.with_extra_args_support(self.tx).update
        forwarding = optax.GradientTransformation(
            self.tx.init, functools.partial(update, **feedback)
        )
        # Flax's step runs as it is, on a transformation that holds the feedback;
        # the last argument puts the real one back.
        stepped = train_state.TrainState.apply_gradients(
            self.replace(tx=forwarding), grads=grads, **{"tx": self.tx, **kwargs}
        )
        return cast(TrainState, stepped)
