"""Closed loop on the loss alone: the rate falls, or rises as well, by what it does."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.contract import Peer
from benchmarks.peers.recording import recorded, trace

PLATEAU = {"factor": 0.5, "patience": 5, "rtol": 1e-4, "accumulation_size": 20}
"""Factor, patience and tolerance of Optax's own example (its defaults, .1 and 10, are
for one validation loss an epoch). Its documentation asks for a larger accumulation
where the loss is a minibatch's; the example's 200 would outlast our runs."""

FLOOR = 1 / 20  # of GreedyLR's rate, over the base rate


class GreedyLRState(NamedTuple):
    """State of `greedy_lr`."""

    greedy_rate: jax.Array  # f32[]
    best_value: jax.Array  # f32[] lowest mean so far
    good_count: jax.Array  # i32[] improvements in a row
    bad_count: jax.Array  # i32[] the others in a row
    resets_left: jax.Array  # i32[] reductions at the floor before a fresh start
    window: jax.Array  # f32[window] the last values
    window_count: jax.Array  # i32[] values since the start, or a fresh one


def greedy_lr(
    learning_rate: jax.Array | float,
    *,
    factor: float = 0.95,
    patience: int = 10,
    threshold: float = 1e-6,
    window: int = 50,
    max_rate: float = 1.0,
    floor: float = FLOOR,
    reset_after: int = 500,
) -> optax.GradientTransformationExtraArgs:
    """GreedyLR: up on a run of improvements, down on a run without.

    With m the mean of the last ``window`` losses, and m* its lowest so far::

        r <- min(r/F, r_max)    after more than `patience` times m < m* - threshold
        r <- max(r F, r_min)    after more than `patience` times not

    Scales updates that were made at ``learning_rate``. The numbers are the defaults of
    its authors' published code but for two: r_min there is 1e-3 whatever the rate, and
    their own examples pass a twentieth of it; smoothing is off there, for validation
    losses, and here on at their window, for minibatch losses. Its cooldown and warm-up
    are 0 by default and left out, as is the least change of 1e-8. Theirs steps after
    the update, this one before.

    References:
      Subramanian, Ganapathiraman, Zeroth order GreedyLR, 2023; Subramanian,
      Krishnamoorthy, Murthy, arXiv 2512.14527, 2025; `GreedyLR` in Hugging Face
      transformers, pull request 44271.
    """
    floor = floor * learning_rate

    def init(params):
        del params
        zero = jnp.zeros((), jnp.int32)
        return GreedyLRState(
            greedy_rate=jnp.asarray(learning_rate, jnp.float32),
            best_value=jnp.full((), jnp.inf, jnp.float32),
            good_count=zero,
            bad_count=zero,
            resets_left=jnp.full((), reset_after, jnp.int32),
            window=jnp.zeros(window, jnp.float32),
            window_count=zero,
        )

    def update(updates, state, params=None, *, value, **extra_args):
        del params, extra_args
        place = jnp.arange(window)
        values = jnp.where(
            place == state.window_count % window, value, state.window
        ).astype(jnp.float32)
        count = state.window_count + 1
        mean = jnp.sum(jnp.where(place < count, values, 0.0)) / jnp.minimum(
            count, window
        )
        better = mean < state.best_value - threshold
        good = jnp.where(better, state.good_count + 1, 0)
        bad = jnp.where(better, 0, state.bad_count + 1)
        rise, fall = good > patience, bad > patience
        rate = state.greedy_rate
        # A rate beyond a bound stays where it is: theirs moves towards it only.
        up = jnp.maximum(jnp.minimum(rate / factor, max_rate), rate)
        down = jnp.minimum(jnp.maximum(rate * factor, floor), rate)
        rate = jnp.where(rise, up, jnp.where(fall, down, rate))
        stuck = fall & (rate <= floor)
        left = jnp.where(rise, reset_after, state.resets_left - stuck)
        new = GreedyLRState(
            greedy_rate=rate,
            best_value=jnp.where(better, mean, state.best_value),
            good_count=jnp.where(rise, 0, good),
            bad_count=jnp.where(fall, 0, bad),
            resets_left=left,
            window=values,
            window_count=count,
        )
        fresh = stuck & (left <= 0)
        new = jax.tree.map(lambda a, b: jnp.where(fresh, a, b), init(None), new)
        scale = new.greedy_rate / learning_rate
        return jax.tree.map(lambda u: (scale * u).astype(u.dtype), updates), new

    return optax.GradientTransformationExtraArgs(init, update)


def _plateau(inner, rate, horizon):
    del horizon
    tx = optax.chain(inner(rate), optax.contrib.reduce_on_plateau(**PLATEAU))
    return recorded(tx, lambda state, _: rate * state[1].scale)


def _greedy(inner, rate, horizon):
    del horizon
    tx = optax.chain(inner(rate), greedy_lr(rate))
    return recorded(tx, lambda state, _: state[1].greedy_rate)


PEERS = (
    Peer(
        "reduce_on_plateau",
        _plateau,
        trace=trace,
        source="optax.contrib.reduce_on_plateau; numbers of its example, 20 values a "
        "judgement",
    ),
    Peer(
        "greedy_lr",
        _greedy,
        trace=trace,
        source="GreedyLR, arXiv 2512.14527; defaults of Hugging Face transformers' "
        "port, smoothed, floor at a twentieth of the base rate",
    ),
)
