"""Who trains: an optimizer as it is, what people put around it, and ours."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks import peers
from benchmarks.contract import Peer


class SkipSpikesState(NamedTuple):
    """State of `skip_spikes`."""

    spike_inner: optax.OptState
    spike_history: jax.Array  # f32[interval, 2] losses and gradient norms
    spike_count: jax.Array  # i32[] steps so far


def skip_spikes(
    inner: optax.GradientTransformation,
    *,
    interval: int = 128,
    deviations: float = 6.0,
) -> optax.GradientTransformationExtraArgs:
    """Skip a step whose loss or gradient norm lies far above those of late.

    That is above their mean plus ``deviations`` standard deviations over the last
    ``interval`` steps, skipped ones among them, once half of the interval is full. So a
    NaN skips its own step, and every other one until it has left the interval.

    The numbers are MaxText's defaults. It tests only steps with a loss; here each has.

    References:
      ``skip_step_on_spikes`` in maxtext/optimizers/optimizers.py of AI-Hypercomputer's
      MaxText, after ``SkipStepOptimizer`` of allenai/OLMo-core.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> SkipSpikesState:
        history, count = jnp.zeros((interval, 2)), jnp.zeros((), jnp.int32)
        return SkipSpikesState(inner.init(params), history, count)

    def update(updates, state, params=None, *, value, **extra_args):
        now = jnp.stack([value, optax.tree.norm(updates)])
        count, history = state.spike_count, state.spike_history
        known = jnp.minimum(count, interval)
        there = (jnp.arange(interval) < known)[:, None]
        mean = jnp.sum(jnp.where(there, history, 0.0), 0) / jnp.maximum(known, 1)
        squares = jnp.sum(jnp.where(there, (history - mean) ** 2, 0.0), 0)
        deviation = jnp.sqrt(squares / jnp.maximum(known - 1, 1))
        usual = jnp.all(now - mean <= deviations * deviation)
        new, inner_state = jax.lax.cond(
            usual | (count + 1 < interval // 2),
            lambda: inner.update(updates, state.spike_inner, params, **extra_args),
            lambda: (jax.tree.map(jnp.zeros_like, updates), state.spike_inner),
        )
        history = history.at[count % interval].set(now)
        return new, SkipSpikesState(inner_state, history, count + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _plain(inner, rate, horizon):
    del horizon
    return optax.with_extra_args_support(inner(rate))


def _if_finite(inner, rate, horizon):
    return optax.apply_if_finite(inner(rate), max_consecutive_errors=horizon)


def _skipping(inner, rate, horizon):
    del horizon
    return skip_spikes(inner(rate))


UNGUARDED = ("plain", "apply_if_finite")
"""The better of these two is what ours is held against."""

OURS = ("nudge", "search", "safe")

ARMS: dict[str, Peer] = {
    "plain": Peer("plain", _plain),
    "apply_if_finite": Peer("apply_if_finite", _if_finite),
    "skip_spikes": Peer("skip_spikes", _skipping),
    **{name: peers.PEERS[name] for name in ("reduce_on_plateau", *OURS)},
}
