"""The parts of acting: each as a stage, and as a stage that does nothing."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adaptive_optax.act import average, averaging_horizon, dither, filters, step, worth
from adaptive_optax.act.injection import Gains, Inner
from adaptive_optax.act.momentum_shadow import momentum_shadow
from adaptive_optax.law import Law


class Acting(NamedTuple):
    """What of the loop's decisions reaches the run."""

    scale: Callable[[Any], Any]  # the multiplier -> the one that is applied
    grads: Callable[[Any], Any]  # what a step has brought -> the optimizer's gradients
    taken: Callable[[Any, Any], Any]  # (seen, verdict) -> bool[] a step is taken
    # (params, steps, taken, fraction) -> the steps, were entries of them not finite
    take: Callable[..., tuple[Any, Any]]
    recorded: Callable[[Any], Any]  # steps -> those that the sensor remembers


def active() -> Acting:
    """The loop acts: on finite entries of sound batches, at the rate that it sets."""
    return Acting(
        scale=lambda scale: scale,
        grads=lambda seen: seen.grads,
        taken=lambda seen, verdict: seen.learnt & verdict.goes_on,
        take=step.take,
        recorded=lambda steps: steps,
    )


def idle() -> Acting:
    """The loop watches: every step is the plain optimizer's, finite or not."""

    def take(params, steps, taken, *, fraction):
        return steps, step.take(params, steps, taken, fraction=fraction)[1]

    return Acting(
        scale=jnp.ones_like,
        grads=lambda seen: seen.live_grads,
        taken=lambda seen, verdict: jnp.ones((), bool),
        take=take,
        recorded=lambda steps: jax.tree.map(
            lambda u: jnp.where(jnp.isfinite(u), u, jnp.zeros_like(u)), steps
        ),
    )


class Averaging(NamedTuple):
    """The average of the parameters; without one, its states are ()."""

    init: Callable[[Any], tuple[Any, Any]]  # params -> the average, its horizon
    update: Callable[..., tuple[Any, Any]]


def averaged(law: Law, fraction: float) -> Averaging:
    """The polynomial average, whose horizon shrinks on a lag (`averaging_horizon`)."""

    def update(averages, reach, params, grads, **verdict):
        return averaging_horizon.absorb(
            reach,
            averages,
            params,
            grads,
            law=law,
            fraction=fraction,
            **verdict,
        )

    return Averaging(
        init=lambda params: (
            average.init_average(params),
            averaging_horizon.init_window(params, fraction),
        ),
        update=update,
    )


def unaveraged() -> Averaging:
    """Nothing is averaged."""

    def update(averages, reach, params, grads, **verdict):
        del params, grads, verdict
        return averages, reach

    return Averaging(init=lambda params: ((), ()), update=update)


Noise = Callable[..., Any]
"""(params, steps, f32[] sigma, i32[] count) -> steps."""


def noise(dithers: bool, seed: Any, scale: Any, distribution: str) -> Noise:
    """Noise of size sigma D(theta) is added to every step, or none is ever drawn."""
    if not dithers:
        return lambda params, steps, sigma, count: steps

    def update(params, steps, sigma, count):
        return dither.dither(
            params,
            steps,
            sigma,
            seed=seed,
            count=count,
            scale=scale,
            distribution=distribution,
        )

    return update


class Shadow(NamedTuple):
    """Corrects the step size for a moving momentum; the state is () without one."""

    init: Callable[[], Any]
    update: Callable[[jax.Array, Any], tuple[Any, Any]]  # -> factor of the rate, state


def shadowed(inner: Any, adapter: Inner, base_momentum: float | jax.Array) -> Shadow:
    """Correct the rate for a momentum that has moved (`momentum_shadow`).

    Our own filters are left alone: their averages are normalised, so on a constant
    gradient no path of the momentum enlarges a step.

    Args:
      inner: The optimizer as the user gave it.
      adapter: The same as one that takes gains.
      base_momentum: The momentum that the base rate was chosen for.
    """
    make, one = adapter.make, jnp.array(1.0, jnp.float32)
    while isinstance(inner, functools.partial):
        inner = inner.func
    if make is None or inner in (*filters.NORMALISED, *worth.NORMALISED):
        return unshadowed()
    return Shadow(
        *momentum_shadow(
            lambda momentum: make(Gains(one, one, momentum)), base_momentum
        )
    )


def unshadowed() -> Shadow:
    """The momentum is held, so the rate needs no correction."""
    return Shadow(init=lambda: (), update=lambda momentum, state: (1.0, state))


def shadow_of(rule: Any, *shadowed_by: Any) -> Shadow:
    """`shadowed` where a rule moves the momentum, else `unshadowed`."""
    return unshadowed() if rule is None else shadowed(*shadowed_by)
