"""Many runs of one configuration in one program."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from benchmarks.gains.work import Work

USUAL = 0.9

Make = Callable[..., optax.GradientTransformationExtraArgs]


def made(
    optimizer: str, rate: jax.Array, momentum: jax.Array, options: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """Ours at a momentum; SGD's rate is such that its effective step is the same."""
    if optimizer == "adam":
        return ao.adaptive_adam(rate, momentum, **options)
    return ao.adaptive_sgd(rate * (1 - momentum) / (1 - USUAL), momentum, **options)


def finals(
    work: Work,
    optimizer: str,
    options: Mapping[str, Any],
    *,
    momenta: Sequence[float],
    seeds: int,
) -> np.ndarray:
    """f64[momenta, seeds]: the metric of the average after the last step.

    Each seed has a base rate of its own, from a third to three times the work's.

    What is not finite counts as the metric before the first step, and so does what is
    worse.
    """

    def lane(momentum: jax.Array, factor: jax.Array, seed: jax.Array):
        start, batches = jax.random.split(jax.random.key(seed))
        tx = made(optimizer, factor * getattr(work, optimizer), momentum, options)
        params = work.init(start)

        def step(carry, t):
            params, state = carry
            loss, grads = jax.value_and_grad(work.loss)(
                params, jax.random.fold_in(batches, t)
            )
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        carry, _ = jax.lax.scan(
            step, (params, tx.init(params)), jnp.arange(work.horizon)
        )
        return work.metric(ao.eval_params(carry[1], carry[0])), work.metric(params)

    every = lane
    for axes in ((None, 0, 0), (0, None, None)):
        every = jax.vmap(every, axes)
    end, first = jax.jit(every)(
        jnp.asarray(momenta, jnp.float32),
        10 ** jnp.linspace(-0.5, 0.5, seeds, dtype=jnp.float32),
        jnp.arange(seeds),
    )
    end, first = np.asarray(end, np.float64), np.asarray(first, np.float64)
    return np.clip(np.where(np.isfinite(end), end, first), work.floor, first)
