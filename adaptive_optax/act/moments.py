r"""The averages inside the filters, each one link of a chain.

All are normalised, m ← μ m + (1 − μ) g. The debiased ones divide by the same average of
ones, w ← μ w + (1 − μ), which is 1 − Π μ whatever path μ took. w is kept as an average,
not as the product: it is then rounded as m is, and m / w is exact on a constant input.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _trees
from adaptive_optax._arguments import in_order, transformation

Gain = optax.ScalarOrSchedule
"""A number, an array (possibly traced) or a schedule from step count to either."""


class HeavyBallState(NamedTuple):
    """State of `heavy_ball`."""

    heavy_ball_count: jax.Array  # i32[] updates so far
    heavy_ball_average: optax.Updates  # like params: EMA of the input
    heavy_ball_gain: jax.Array  # f32[] 1 / (1 - base momentum), fixed at init


class MomentumState(NamedTuple):
    """State of `debiased_momentum`."""

    momentum_count: jax.Array  # i32[] updates so far
    momentum_average: optax.Updates  # like params: EMA of the input
    momentum_weight: jax.Array  # f32[] the same EMA of ones


class AdamMomentsState(NamedTuple):
    """State of `adam_moments`."""

    adam_count: jax.Array  # i32[] updates so far
    first_moment: optax.Updates  # like params: EMA of g
    first_weight: jax.Array  # f32[] the same EMA of ones
    second_moment: optax.Updates  # like params, real: EMA of |g|^2
    second_weight: jax.Array  # f32[] the same EMA of ones


def heavy_ball(
    momentum: Gain, nesterov: bool, base_momentum: float | jax.Array | None
) -> optax.GradientTransformation:
    """The link m / (1 − μ₀); see `filters.momentum_sgd`."""

    def init(params):
        count = jnp.zeros([], jnp.int32)
        base = _at(momentum, count) if base_momentum is None else base_momentum
        return HeavyBallState(
            heavy_ball_count=count,
            heavy_ball_average=_trees.zero_accumulators(params),
            heavy_ball_gain=jnp.asarray(1.0 / (1.0 - base), jnp.float32),
        )

    def update(updates, state, params=None):
        del params
        mu = _at(momentum, state.heavy_ball_count)
        average = _average(mu, state.heavy_ball_average, updates)
        ahead = _average(mu, average, updates) if nesterov else average
        gain = state.heavy_ball_gain
        return jax.tree.map(lambda m: gain * m, ahead), HeavyBallState(
            heavy_ball_count=_trees.next_count(state.heavy_ball_count),
            heavy_ball_average=average,
            heavy_ball_gain=gain,
        )

    return optax.GradientTransformation(init, update)


def debiased_momentum(momentum: Gain) -> optax.GradientTransformation:
    """The link m / w; see `filters.adagrad`."""

    def init(params):
        return MomentumState(
            momentum_count=jnp.zeros([], jnp.int32),
            momentum_average=_trees.zero_accumulators(params),
            momentum_weight=jnp.zeros([], jnp.float32),
        )

    def update(updates, state, params=None):
        del params
        mu = _at(momentum, state.momentum_count)
        weight = _average(mu, state.momentum_weight, 1.0)
        average = _average(mu, state.momentum_average, updates)
        return jax.tree.map(lambda m: m / weight, average), MomentumState(
            momentum_count=_trees.next_count(state.momentum_count),
            momentum_average=average,
            momentum_weight=weight,
        )

    return optax.GradientTransformation(init, update)


def adam_moments(
    b1: Gain,
    b2: Gain,
    eps: float | jax.Array,
    eps_root: float | jax.Array,
) -> optax.GradientTransformation:
    """The link m̂ / (sqrt(v̂ + eps_root) + eps); see `filters.adam`."""

    def init(params):
        def zero_square(leaf):
            real = jnp.finfo(_trees.accumulator_dtype(leaf)).dtype
            return jnp.zeros_like(leaf, dtype=real)

        return AdamMomentsState(
            adam_count=jnp.zeros([], jnp.int32),
            first_moment=_trees.zero_accumulators(params),
            first_weight=jnp.zeros([], jnp.float32),
            second_moment=jax.tree.map(zero_square, params),
            second_weight=jnp.zeros([], jnp.float32),
        )

    def update(updates, state, params=None):
        del params
        decay, square_decay = _at(b1, state.adam_count), _at(b2, state.adam_count)
        squares = jax.tree.map(_trees.abs_square, updates)
        first_moment = _average(decay, state.first_moment, updates)
        first_weight = _average(decay, state.first_weight, 1.0)
        second_moment = _average(square_decay, state.second_moment, squares)
        second_weight = _average(square_decay, state.second_weight, 1.0)

        def step(m, v):
            m_hat, v_hat = m / first_weight, v / second_weight
            return m_hat / (jnp.sqrt(v_hat + eps_root) + eps)

        return jax.tree.map(step, first_moment, second_moment), AdamMomentsState(
            adam_count=_trees.next_count(state.adam_count),
            first_moment=first_moment,
            first_weight=first_weight,
            second_moment=second_moment,
            second_weight=second_weight,
        )

    return optax.GradientTransformation(init, update)


def chain_raised(
    *links: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """A chain that runs in float32 at least; its updates leave in the input's dtype."""
    inner = optax.chain(*links)

    def init(params):
        return inner.init(_trees.raised(params))

    def update(updates, state, params=None, **extra_args):
        in_order(updates, state, params)
        steps, state = inner.update(
            _trees.raised(updates), state, _trees.raised(params), **extra_args
        )
        steps = jax.tree.map(lambda s, g: s.astype(jnp.result_type(g)), steps, updates)
        return steps, state

    return transformation(init, update)


def _average(decay: float | jax.Array, old: Any, new: Any) -> Any:
    """One step of a normalised EMA over a tree, in the dtype it is kept in."""
    return jax.tree.map(
        lambda m, g: (decay * m + (1 - decay) * g).astype(m.dtype), old, new
    )


def _at(gain: Gain, count: jax.Array) -> float | jax.Array:
    """Today's value: a plain number as it is (full precision), the rest as float32."""
    value = gain(count) if callable(gain) else gain
    return value if isinstance(value, int | float) else jnp.asarray(value, jnp.float32)
