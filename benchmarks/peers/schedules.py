"""Open loop: the rate is a function of the step, whatever the run does.

With t the share of the horizon T that has passed, w the share of the warm-up and r the
rate::

    constant              r
    constant_warm_up      r min(n/20, 1)                               n: steps from 1
    inverse_sqrt          r min(n/20, sqrt(20/n))
    cosine                r min(t/w, (1 + cos(pi (t - w)/(1 - w)))/2)        w = .05
    warmup_stable_decay   r min(t/w, 1, (1 - t)/.3)                          w = .05
    nadamw                cosine around NAdamW at fixed numbers              w = .02
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from benchmarks.contract import Peer
from benchmarks.peers.recording import recorded, trace

WARM_UP = 0.05
FIRST_STEPS = 20  # as ours; another version of the package may have another law
"""The steps over which adaptive_optax's default law warms up, for whom asks for a
number of steps instead of a share. It is 5 % of 400 steps."""
DECAY = 0.3
"""The share that adaptive_optax anneals over where it knows the horizon, so that what
differs is the controller. Hu et al. (MiniCPM, 2024) take .1, Hägele et al. 2024 find
.2 enough to match the cosine."""

NADAMW = {
    "learning_rate": 0.0017486387539278373,
    "b1": 1.0 - 0.06733926164,
    "b2": 0.9955159689799007,
    "eps": 1e-8,
    "weight_decay": 0.08121616522670176,
}
NADAMW_WARM_UP = 0.02


def constant_shape(horizon: int = 0) -> optax.Schedule:
    """From 1/`FIRST_STEPS` up to 1 over as many steps, as adaptive_optax starts."""
    del horizon
    return lambda count: jnp.minimum((count + 1) / FIRST_STEPS, 1.0)


def inverse_sqrt_shape(horizon: int = 0) -> optax.Schedule:
    """The same start, and then the inverse square root of the steps."""
    del horizon

    def height(count):
        steps = (count + 1) / FIRST_STEPS
        return jnp.minimum(steps, jax.lax.rsqrt(steps))

    return height


def cosine_shape(horizon: int, warm_up: float = WARM_UP) -> optax.Schedule:
    """From 0 up to 1 linearly over ``warm_up`` of the horizon, then a cosine to 0."""
    steps = share_of(horizon, warm_up)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, 1.0, steps),
            optax.cosine_decay_schedule(1.0, max(horizon - steps, 1)),
        ],
        [steps],
    )


def trapezoid_shape(horizon: int) -> optax.Schedule:
    """From 0 up to 1 over `WARM_UP` of the horizon, and to 0 over its last `DECAY`."""
    up, down = share_of(horizon, WARM_UP), share_of(horizon, DECAY)
    return lambda count: jnp.minimum(
        jnp.minimum(count / up, 1.0), jnp.maximum(horizon - count, 0) / down
    )


def linear_shape(horizon: int) -> optax.Schedule:
    """From 1 down to 0 linearly over the horizon."""
    return optax.linear_schedule(1.0, 0.0, horizon)


def share_of(horizon: int, share: float = WARM_UP) -> int:
    """How many steps a share of the horizon is, at least 1."""
    return max(int(share * horizon), 1)


def _scheduled(shape: Callable[[int], optax.Schedule]):
    def make(inner, rate, horizon):
        # Optax's own warm-up schedules compare their peak with 0 in Python, which a
        # traced rate cannot answer: the shape is fixed, the rate multiplies it.
        height = shape(horizon)

        def schedule(count):
            return rate * height(count)

        return recorded(inner(schedule), lambda _, count: schedule(count))

    return make


def _nadamw(inner, rate, horizon):
    del inner
    height = cosine_shape(horizon, NADAMW_WARM_UP)

    def schedule(count):
        return rate * NADAMW["learning_rate"] * height(count)

    return recorded(
        optax.nadamw(**{**NADAMW, "learning_rate": schedule}),
        lambda _, count: schedule(count),
    )


PEERS = (
    Peer(
        "constant",
        lambda inner, rate, horizon: recorded(inner(rate), lambda *_: rate),
        trace=trace,
        source="the plain optimizer",
    ),
    Peer(
        "constant_warm_up",
        _scheduled(constant_shape),
        trace=trace,
        source="the plain optimizer, warmed up as adaptive_optax is",
    ),
    Peer(
        "inverse_sqrt",
        _scheduled(inverse_sqrt_shape),
        trace=trace,
        source="Vaswani et al. 2017 (arXiv 1706.03762), without the factor of the "
        "width; so used by T5 (1910.10683), Zhai et al. 2022 (2106.04560) and as "
        "inverse_sqrt in fairseq and Hugging Face transformers. Theirs warms up over "
        "4000 to 10000 steps of runs that are as much longer",
    ),
    Peer(
        "cosine",
        _scheduled(cosine_shape),
        knows_horizon=True,
        trace=trace,
        source="Loshchilov, Hutter, SGDR, 2017, without restarts; 5 % warm-up",
    ),
    Peer(
        "warmup_stable_decay",
        _scheduled(trapezoid_shape),
        knows_horizon=True,
        trace=trace,
        source="Hu et al., MiniCPM, 2024 (arXiv 2404.06395); linear decay over 30 %",
    ),
    Peer(
        "nadamw",
        _nadamw,
        free=True,
        knows_horizon=True,
        own_optimizer=True,
        trace=trace,
        # Theirs debiases the Nesterov numerator as a whole, Optax's term by term
        # (Dozat 2016): b1 (1/(1 - b1^t) - 1/(1 - b1^(t+1))) apart, gone in 50 steps.
        source="MLCommons AlgoPerf, reference_algorithms/qualification_baselines/"
        "self_tuning/jax_nadamw_full_budget.py (commit 2c653f8)",
    ),
)
