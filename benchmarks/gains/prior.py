"""The prior art of a moving momentum, each as its authors left it.

A run with the loop has the loop's rate. A run without it has a constant one, and the
better of its last parameters and of their average counts.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

import adaptive_optax as ao
from benchmarks.gains.yellowfin import yellowfin

ALPHA = 5.0  # of AdEMAMix
MEMORY, SHORTER = 0.9999, 0.999  # its b3: the paper's, and the one for short runs
WARM = 0.99  # where a warm-up of b1 ends


class Given(NamedTuple):
    """What a run without the loop is told."""

    rate: jax.Array  # f32[] base rate; for SGD one of the same effective step
    factor: jax.Array  # f32[] the same over the work's own rate
    momentum: jax.Array  # f32[]
    horizon: int


Make = Callable[[Given], optax.GradientTransformation]


class Alone(NamedTuple):
    """An arm without the loop."""

    make: Make
    own_momentum: bool = False  # whether the held one says nothing to it


def warmed(
    start: float | jax.Array, end: float | jax.Array, steps: int
) -> Callable[[jax.Array], jax.Array]:
    """A decay whose memory, 1 / -log of it, grows linearly: AdEMAMix's warm-up of b3.

    Args:
      start: Decay at step 0, in [0, 1).
      end: Decay from ``steps`` on, in (0, 1).
      steps: At least 1.
    """

    def schedule(count):
        share = jnp.minimum(count / steps, 1.0)
        memory = (1 - share) / jnp.log(start) + share / jnp.log(end)
        return jnp.exp(1 / memory)

    return schedule


def ademamix(
    learning_rate: float | jax.Array,
    b1: float | jax.Array,
    *,
    b3: float = MEMORY,
    horizon: int,
) -> optax.GradientTransformation:
    """AdEMAMix with both warm-ups of its paper over the whole run."""
    return contrib.ademamix(
        learning_rate,
        b1,
        b3=warmed(b1, jnp.maximum(b3, b1), horizon),
        alpha=optax.schedules.linear_schedule(0.0, ALPHA, horizon),
    )


def adam_warmed(given: Given) -> optax.GradientTransformation:
    """Adam whose b1 rises from the held one to .99 over the whole run."""
    b1 = warmed(given.momentum, jnp.maximum(WARM, given.momentum), given.horizon)
    return optax.inject_hyperparams(optax.adam)(given.rate, b1=b1)


def in_the_loop(given: Given, b3: float, share: float) -> optax.GradientTransformation:
    """AdEMAMix under the default law, which moves its rate and holds its b1."""
    factory = functools.partial(ademamix, b3=b3, horizon=given.horizon)
    rate = share * given.rate
    return ao.adaptive_scheduler(factory, rate, momentum=given.momentum)


CONSTANT_SGD = Alone(lambda given: optax.sgd(given.rate, given.momentum))
CONSTANT_ADAM = Alone(lambda given: optax.adam(given.rate, given.momentum))
YELLOWFIN = {
    "YellowFin": Alone(lambda given: yellowfin(), True),
    "YellowFin x factor": Alone(lambda given: yellowfin(given.factor), True),
    "the same, means over 100": Alone(
        lambda given: yellowfin(given.factor, beta=0.99), True
    ),
}
SIXTH = 1 / (1 + ALPHA)  # of the rate: no longer steps than Adam's
ADEMAMIX = {
    f"AdEMAMix, b3 {b3}{said}": Alone(
        lambda given, b3=b3, share=share: ademamix(
            share * given.rate, given.momentum, b3=b3, horizon=given.horizon
        )
    )
    for b3, share, said in (
        (MEMORY, 1.0, ""),
        (SHORTER, 1.0, ""),
        (SHORTER, SIXTH, ", rate / 6"),
    )
}
LOOPED = {
    f"AdEMAMix in the loop{said}": functools.partial(
        in_the_loop, b3=SHORTER, share=share
    )
    for share, said in ((1.0, ""), (SIXTH, ", rate / 6"))
}
