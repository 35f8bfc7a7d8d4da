"""Schedule-Free: averaging in the loop in place of a decaying rate.

With z stepped by the inner optimizer without its momentum, x its running mean weighted
by the squared rate, and b = .9::

    y = (1 - b) z + b x,    the gradient is taken at y, and x is evaluated

`schedule_free_plus` steps z by Adam with its momentum, at a rate that the loss gives.
"""

import functools
import inspect
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from benchmarks.contract import Peer
from benchmarks.peers.recording import recorded, trace
from benchmarks.peers.schedules import share_of

MOMENTUM_OFF = {"momentum": None, "b1": 0.0, "beta": 0.0, "adam_b1": 0.0}
"""What the factories call their momentum, and how it is switched off."""


def without_momentum(inner):
    """The same factory with its momentum switched off, as Schedule-Free asks."""
    known = inspect.signature(inner).parameters
    off = {name: value for name, value in MOMENTUM_OFF.items() if name in known}
    return functools.partial(inner, **off)


def _averaged(inner, rate):
    """Schedule-Free around an optimizer at a rate, or at a schedule."""
    if inner in (optax.adam, optax.adamw):
        # Optax's shortcut saves the first moment, which is 0 throughout.
        decay = inspect.signature(inner).parameters.get("weight_decay")
        return contrib.schedule_free_adamw(
            rate, weight_decay=decay.default if decay else 0.0
        )
    return contrib.schedule_free(without_momentum(inner)(rate), rate)


def _schedule_free(inner, rate, horizon):
    del horizon
    return recorded(_averaged(inner, rate), lambda *_: rate)


def _schedule_free_warm_up(inner, rate, horizon):
    # What Optax's shortcuts make of their `warmup_steps`, for any optimizer.
    schedule = optax.warmup_constant_schedule(0.0, rate, share_of(horizon))
    return recorded(_averaged(inner, schedule), lambda _, count: schedule(count))


class ScheduleFreePlusState(NamedTuple):
    """State of `schedule_free_plus`."""

    plus_rate: jax.Array  # f32[] of the last step
    highest_rate: jax.Array  # f32[] so far
    plus_count: jax.Array  # i32[]
    weight_sum: jax.Array  # f32[]
    norm: jax.Array  # f32[] running mean of the gradient's norm
    mean: Any  # of the gradients
    square: Any  # of the gradients
    iterate: Any  # z
    average: Any  # x, to be evaluated


def schedule_free_plus(
    learning_rate: Any = 1.0,
    *,
    warm_up: int = 0,
    b1: float = 0.9,
    b2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    interpolation: float = 0.9,
    last_interpolation: float = 0.965,
    interpolation_steps: int = 0,
    power: float = 0.0,
    rate_power: float = 2.0,
    norm_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """ScheduleFree+: Schedule-Free Adam at the rate of a Polyak step.

    With f the loss and g its gradient at y, l the factor ``learning_rate`` (1 after
    ``warm_up`` steps), t the steps from 1, and w the weight ``weight_decay``::

        e   running mean of sqrt(pi/2) |g|_1, debiased; by default the last value
        a = l min(t / warm_up, 1) max(f + b <g, z - x>, 0) / e
        z <- z - a^2 w y - a Adam(g)          AdamC: the decay goes by the squared rate
        x <- (1 - c) x + c z,    c = t^power max(a)^rate_power, over its sum so far
        y <- b x + (1 - b) z,    b rises from `interpolation` to `last_interpolation`

    c is 1 during the warm-up, and the interpolation is constant unless it is given
    steps to rise over. The defaults are those of the author's code. Two things are
    ours: a gradient of 0 is no step (0/0 there), and its documentation asks for a
    warm-up of the rate, and for c = 1 over one or two times as long, without saying how
    long it is. A loss that cannot come near 0, or is negative, misleads the method:
    its least value is taken for 0.

    References:
      Defazio, arXiv 2605.19095, 2026; `adamc_schedulefree_plus_paper.py` of
      github.com/facebookresearch/schedule_free (commit 70785b5).
    """

    def init(params):
        zero = jnp.zeros((), jnp.float32)
        zeros = optax.tree.zeros_like(params)
        copy = jax.tree.map(jnp.copy, params)
        return ScheduleFreePlusState(
            plus_rate=zero,
            highest_rate=jnp.full((), eps, jnp.float32),
            plus_count=jnp.zeros((), jnp.int32),
            weight_sum=zero,
            norm=zero,
            mean=zeros,
            square=zeros,
            iterate=copy,
            average=copy,
        )

    def update(grads, state, params, *, value, **extra_args):
        del extra_args
        step = state.plus_count + 1
        b = interpolation
        if interpolation_steps:
            share = jnp.minimum(state.plus_count / interpolation_steps, 1.0)
            ends = math.log(1.0 - interpolation), math.log(1.0 - last_interpolation)
            b = 1.0 - jnp.exp(ends[0] * (1.0 - share) + ends[1] * share)
        away = jax.tree.map(jnp.subtract, state.iterate, state.average)
        lead = b * optax.tree.vdot(grads, away)
        size = optax.tree.sum(jax.tree.map(lambda g: jnp.sum(jnp.abs(g)), grads))
        size = math.sqrt(math.pi / 2) * size
        norm = norm_decay * state.norm + (1 - norm_decay) * size
        below = norm / (1 - norm_decay**step)
        polyak = jnp.where(below > 0, jnp.maximum(value + lead, 0.0) / below, 0.0)
        rate = learning_rate * polyak * jnp.minimum(step / max(warm_up, 1), 1.0)
        highest = jnp.maximum(rate, state.highest_rate)
        started = state.plus_count >= warm_up
        weight = started * step**power * highest**rate_power
        weight_sum = state.weight_sum + weight
        c = jnp.where(started, weight / jnp.where(started, weight_sum, 1.0), 1.0)
        mean = optax.tree.update_moment(grads, state.mean, b1, 1)
        square = optax.tree.update_moment(grads, state.square, b2, 2)

        def move(z, y, m, v):
            m, v = m / (1 - b1**step), v / (1 - b2**step)
            return z - rate**2 * weight_decay * y - rate * m / (jnp.sqrt(v) + eps)

        z = jax.tree.map(move, state.iterate, params, mean, square)
        x = jax.tree.map(lambda x, z: (1 - c) * x + c * z, state.average, z)
        updates = jax.tree.map(lambda x, z, y: b * x + (1 - b) * z - y, x, z, params)
        return updates, ScheduleFreePlusState(
            plus_rate=rate,
            highest_rate=highest,
            plus_count=step,
            weight_sum=weight_sum,
            norm=norm,
            mean=mean,
            square=square,
            iterate=z,
            average=x,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _schedule_free_plus(inner, rate, horizon):
    del inner
    tx = schedule_free_plus(rate, warm_up=share_of(horizon))
    return recorded(tx, lambda state, _: state.plus_rate)


def _eval_params(state, params):
    return contrib.schedule_free_eval_params(state.recorded_inner, params)


PEERS = (
    Peer(
        "schedule_free",
        _schedule_free,
        eval_params=_eval_params,
        trace=trace,
        source="Defazio et al. 2024 (arXiv 2405.15682); defaults of "
        "optax.contrib.schedule_free, no warm-up",
    ),
    Peer(
        "schedule_free_warm_up",
        _schedule_free_warm_up,
        eval_params=_eval_params,
        knows_horizon=True,
        trace=trace,
        source="as schedule_free, with the warm-up that its authors recommend, over "
        "5 % of the run; their own entries to AlgoPerf take 2 %",
    ),
    Peer(
        "schedule_free_plus",
        _schedule_free_plus,
        eval_params=lambda state, params: state.recorded_inner.average,
        free=True,
        knows_horizon=True,
        own_optimizer=True,
        trace=trace,
        source="Defazio 2026 (arXiv 2605.19095); checked against the author's code, "
        "its defaults; the paper's own numbers could not be read, so the warm-up that "
        "it asks for is ours: 5 %, of the rate and of the averaging",
    ),
)
