"""Many runs of one configuration in one program."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from benchmarks.gains.prior import Alone, Given, Make
from benchmarks.gains.work import Work

USUAL = 0.9

Arm = Mapping[str, Any] | Make | Alone
"""Options of ours, another optimizer in the loop, or one without it."""


def made(
    optimizer: str, rate: jax.Array, momentum: jax.Array, options: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """Ours at a momentum; SGD's rate is such that its effective step is the same."""
    if optimizer == "adam":
        return ao.adaptive_adam(rate, momentum, **options)
    return ao.adaptive_sgd(same_step(rate, momentum), momentum, **options)


def same_step(rate: jax.Array, momentum: jax.Array) -> jax.Array:
    """Rate of SGD of the effective step that ``rate`` has under momentum .9."""
    return rate * (1 - momentum) / (1 - USUAL)


def of_arm(
    arm: Arm, work: Work, optimizer: str, momentum: jax.Array, factor: jax.Array
) -> optax.GradientTransformationExtraArgs:
    """An arm's optimizer, with an average of the parameters in its state."""
    rate = factor * getattr(work, optimizer)
    if isinstance(arm, Mapping):
        return made(optimizer, rate, momentum, arm)
    if optimizer == "sgd":
        rate = same_step(rate, momentum)
    given = Given(rate, factor, momentum, work.horizon)
    if isinstance(arm, Alone):
        return optax.chain(arm.make(given), ao.average_params())
    return arm(given)


def finals(
    work: Work,
    optimizer: str,
    arm: Arm,
    *,
    momenta: Sequence[float],
    seeds: int,
) -> np.ndarray:
    """f64[momenta, seeds]: the metric of the average after the last step.

    Without the loop nothing watches whether that average lags, so the last parameters
    count where they are better.

    Each seed has a base rate of its own, from a third to three times the work's.

    What is not finite counts as the metric before the first step, and so does what is
    worse.
    """

    def lane(momentum: jax.Array, factor: jax.Array, seed: jax.Array):
        start, batches = jax.random.split(jax.random.key(seed))
        tx = of_arm(arm, work, optimizer, momentum, factor)
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
        end = work.metric(ao.eval_params(carry[1], carry[0]))
        if isinstance(arm, Alone):
            end = jnp.fmin(end, work.metric(carry[0]))
        return end, work.metric(params)

    own = isinstance(arm, Alone) and arm.own_momentum
    every = lane
    for axes in ((None, 0, 0), (0, None, None)):
        every = jax.vmap(every, axes)
    end, first = jax.jit(every)(
        jnp.asarray(momenta[:1] if own else momenta, jnp.float32),
        10 ** jnp.linspace(-0.5, 0.5, seeds, dtype=jnp.float32),
        jnp.arange(seeds),
    )
    end, first = np.asarray(end, np.float64), np.asarray(first, np.float64)
    found = np.clip(np.where(np.isfinite(end), end, first), work.floor, first)
    return np.broadcast_to(found, (len(momenta), seeds))
