r"""Keeps the step size of any optimizer while its momentum moves.

Optax's optimizers disagree on what momentum does to the step: a heavy ball sums, Adam
averages and corrects bias with today's decay, Lion takes a sign. So the effect is
measured: two copies of the optimizer run on a one-element parameter and a gradient of
1, one with today's momentum and one with the base momentum, and

.. math:: r_t = |\Delta_t(\mu_0)| \;/\; |\Delta_t(\mu_1, \dots, \mu_t)|

is the factor on the learning rate that makes a step on a constant gradient independent
of the path of μ. The two copies are one, batched over the momentum, so r is exactly 1
until μ first leaves its base. Our own `filters` do not need it, and run without.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _trees
from adaptive_optax.act import hyperparams

_PARAMETER = 1e-3  # small: weight decay adds next to nothing, and layer norms exist


class MomentumShadowState(NamedTuple):
    """State of a momentum shadow."""

    # Leaves only: a second state under Optax's field names would be ambiguous.
    shadow_inner: tuple[jax.Array, ...]  # leading axis 2: moving, fixed


class ShadowUpdate(Protocol):
    """Advances both copies by one step."""

    def __call__(  # noqa: D102 - the class says it
        self,
        momentum: float | jax.Array,
        state: MomentumShadowState,
        /,
        **extra_args: Any,
    ) -> tuple[jax.Array, MomentumShadowState]: ...


class MomentumShadow(NamedTuple):
    """Two pure functions: ``init()`` and ``update(momentum, state, **extra_args)``."""

    init: Callable[[], MomentumShadowState]
    update: ShadowUpdate


def momentum_shadow(
    make: Callable[[jax.Array], optax.GradientTransformation],
    base_momentum: float | jax.Array,
) -> MomentumShadow:
    r"""Measure how much a moving momentum has changed the step of an optimizer.

    Args:
      make: Builds the optimizer from a traced float32 momentum, at learning rate 1.
      base_momentum: μ₀, the momentum the base learning rate was chosen for.

    Returns:
      ``init() -> state`` and ``update(momentum, state, **extra_args) -> (ratio,
      state)``, with ``ratio`` f32[]: multiply this step's learning rate by it. It is 1
      where either step is zero or not finite. The extra arguments reach the optimizer
      and must not be shaped like the parameters.

    Example:
      >>> shadow = momentum_shadow(lambda mu: optax.sgd(1.0, mu), 0.9)
      >>> state = shadow.init()
      >>> for mu in (0.9, 0.9, 0.99):
      ...     ratio, state = shadow.update(mu, state)
      >>> print(f"{ratio:.4f}")  # 1 + .9 + .81 over 1 + .99 (1 + .9)
      0.9406
    """
    base = jnp.asarray(base_momentum, jnp.float32)

    def parameter() -> jax.Array:
        return jnp.full((1,), _PARAMETER, jnp.float32)

    def fresh() -> optax.OptState:
        def one(momentum: jax.Array) -> optax.OptState:
            return jax.tree.map(_trees.strong, make(momentum).init(parameter()))

        return jax.vmap(one)(jnp.stack([base, base]))

    def init() -> MomentumShadowState:
        return MomentumShadowState(shadow_inner=tuple(jax.tree.leaves(fresh())))

    def update(
        momentum: float | jax.Array, state: MomentumShadowState, /, **extra_args: Any
    ) -> tuple[jax.Array, MomentumShadowState]:
        def one(momentum: jax.Array, inner: optax.OptState):
            tx = optax.with_extra_args_support(make(momentum))
            inner = hyperparams.anew(inner, make, momentum, parameter())
            gradient = jnp.ones((1,), jnp.float32)
            step, new = tx.update(gradient, inner, parameter(), **extra_args)
            new = jax.tree.map(lambda n, o: jnp.asarray(n, o.dtype), new, inner)
            return jnp.max(jnp.abs(jnp.asarray(step, jnp.float32))), new

        momenta = jnp.stack([jnp.asarray(momentum, jnp.float32), base])
        before = jax.tree.unflatten(
            jax.tree.structure(jax.eval_shape(fresh)), state.shadow_inner
        )
        sizes, inner = jax.vmap(one)(momenta, before)
        ratio = sizes[1] / sizes[0]
        usable = (sizes[0] > 0) & (sizes[1] > 0) & jnp.isfinite(ratio)
        return jnp.where(usable, ratio, 1.0), MomentumShadowState(
            shadow_inner=tuple(jax.tree.leaves(inner))
        )

    return MomentumShadow(init, update)
