r"""The evaluation average: a running mean of the parameters that forgets its start.

.. math::
    \bar\theta_{t+1} = \bar\theta_t + \frac{p + 1}{t + p + 1}(\theta_t - \bar\theta_t)

The parameters of step s have a weight like s^p, so the end of training need not be
known: p = 0 is the plain mean, p = 8 averages about the last ninth. By default every
second step is absorbed: a run of 80 has no more than its last dozen to average, and
under much noise every tenth is worse in a long run too.

The weights fall no further from the 131,072nd on. Smaller ones would move a float32 by
less than it resolves, and the average would stay behind.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptive_optax import _checks, _trees
from adaptive_optax._arguments import Caller, arrays, transformation
from adaptive_optax.law import Average
from adaptive_optax.sense.estimators import polynomial_weight

DEFAULT = Average()
LONGEST = 2**17  # parameters that the average reaches back to at most


class AverageState(NamedTuple):
    """State of `average_params`."""

    average: optax.Params  # like params, float32 at least; zeros before the first
    average_count: jax.Array  # i32[] what sets the weights: `averaging_horizon`
    average_wait: jax.Array  # i32[] steps until the next are due


def init_average(params: optax.Params) -> AverageState:
    """An average that has absorbed nothing; ``params`` may be abstract."""
    return AverageState(
        average=_trees.zero_accumulators(params),
        average_count=jnp.zeros([], jnp.int32),
        average_wait=jnp.zeros([], jnp.int32),
    )


def absorb(
    state: AverageState,
    params: Any,
    *,
    healthy: bool | jax.Array = True,
    reset: bool | jax.Array = False,
    power: float = DEFAULT.power,
    every: int = DEFAULT.every,
) -> AverageState:
    """One step of the average.

    ``params`` are the parameters before this step's update, the ones whose loss was
    measured. The lag of one step lets the average run before the optimizer, in one
    `jax.lax.cond` over the whole tree that copies nothing when no parameters are due.
    (Under `jax.vmap` the condition becomes a select and saves nothing.)

    Args:
      state: From `init_average` or the step before.
      params: θ_t.
      healthy: bool[], False absorbs nothing at this step; due parameters then wait for
        the next good one. An entry that is not finite is left out by itself: to decide
        for the whole tree would take a pass over it, and a collective on a mesh.
      reset: bool[], forget everything first; with ``healthy``, restart from ``params``.
      power: p ≥ 0.
      every: Steps between two absorptions, at least 1.

    Returns:
      The next state.
    """
    restart = jnp.asarray(reset, bool)
    count = jnp.where(restart, 0, state.average_count)
    wait = jnp.where(restart, 0, state.average_wait)
    due = jnp.asarray(healthy, bool) & (wait == 0)

    def take() -> optax.Params:
        weight = polynomial_weight(power, jnp.minimum(count, LONGEST - 1) + 1)

        def one(mean: jax.Array, leaf: jax.Array) -> jax.Array:
            leaf = leaf.astype(mean.dtype)
            moved = _trees.toward(mean, leaf, weight.astype(mean.dtype))
            moved = jnp.where(jnp.isfinite(leaf) | ~jnp.isfinite(mean), moved, mean)
            # The first replaces the old average, which may not be finite.
            return jnp.where(count == 0, leaf, moved)

        return jax.tree.map(one, state.average, params)

    return AverageState(
        average=jax.lax.cond(due, take, lambda: state.average),
        average_count=_trees.count_where(due, count),
        average_wait=jnp.where(due, every - 1, jnp.maximum(wait - 1, 0)),
    )


def eval_params(state: Any, params: optax.Params) -> optax.Params:
    """The averaged parameters, to evaluate or to ship.

    They are up to ``every`` steps old: the mean of what was absorbed, without today's
    parameters. Before anything is absorbed, for leaves that the average does not cover
    (`optax.masked`, `optax.partition`, integer leaves), and for entries that were never
    finite, ``params`` come back.
    Where several averages cover a leaf, the last one in the state is taken.

    Args:
      state: Any optimizer state with an average somewhere in it: of a chain, a wrapper,
        `adaptive_scheduler`, or a Flax nnx optimizer's ``opt_state``.
      params: The current parameters; they give structure and dtypes.

    Returns:
      Parameters like ``params``. Works under `jax.jit`.

    Raises:
      ValueError: If ``state`` holds no average, or one of other parameters.

    Example:
      >>> tx = optax.chain(optax.sgd(0.1), average_params())
      >>> params = {"w": jnp.ones(2)}
      >>> print(eval_params(tx.init(params), params)["w"])
      [1. 1.]
    """
    found = _trees.find_states(state, AverageState)
    if not found:
        raise ValueError(
            "`state` holds no average of the parameters; pass average=True to "
            "adaptive_scheduler (and no law whose average is None), or "
            "optax.chain(optimizer, average_params())."
        )
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    # By path, not by structure: a mask leaves holes, and Flax boxes the leaves.
    result = dict(paths)
    for average in found:
        count = _trees.scalar_of(average.average_count)
        for path, mean in jax.tree_util.tree_flatten_with_path(average.average)[0]:
            leaf = result.get(path)
            if leaf is None or jnp.shape(leaf) != mean.shape:
                raise ValueError(
                    "`params` are not the averaged ones: no parameter of shape "
                    f"{mean.shape} at {jax.tree_util.keystr(path)}; try "
                    "eval_params(state, params) with the params given to init (in Flax "
                    "nnx nnx.state(model, nnx.Param))."
                )
            dtype = jnp.result_type(leaf)
            if jnp.issubdtype(dtype, jnp.inexact):
                known = (count > 0) & jnp.isfinite(mean)
                result[path] = jnp.where(known, mean.astype(dtype), leaf)
    return structure.unflatten(result.values())


def average_params(
    *, power: float = DEFAULT.power, every: int = DEFAULT.every
) -> optax.GradientTransformationExtraArgs:
    r"""Keep an average of the parameters; the updates pass through untouched.

    .. math::
        \bar\theta_{t+1} = \bar\theta_t
        + \frac{p + 1}{t + p + 1}(\theta_t - \bar\theta_t)

    at every ``every``-th step, t counting the parameters absorbed. Entries that are not
    finite are left out.

    Args:
      power: p ≥ 0; larger forgets faster.
      every: Steps between two absorptions, at least 1.

    Returns:
      A transformation for any place in a chain; ``update`` needs the parameters. Its
      state holds one copy of them, in float32 for those below. Read it with
      `eval_params`.

    Raises:
      TypeError: If an argument is not a number.
      ValueError: If ``power`` < 0 or ``every`` < 1, or, in ``update``, if there are no
        parameters.

    Example:
      >>> tx = optax.chain(optax.adam(1e-3), average_params())

    References:
      Shamir, Zhang, Stochastic gradient descent for non-smooth optimization, 2013,
      section 4: polynomial-decay averaging; here from a step count of 0, on a subset
      of the steps, and each θ_t before its update.
    """
    _checks.within("power", power, 0.0, example="power=8.0")
    _checks.whole("every", every, 1, example="every=2")

    def update(updates, state, params=None, **extra_args):
        del extra_args
        if not _fits(state, params):
            caller = Caller("average_params", AverageState, like="average")
            params = caller.trees(updates, state, params, needed=True)[1]
        params = arrays(params)
        return updates, absorb(state, params, power=power, every=every)

    return transformation(init_average, update)


def _fits(state: Any, params: Any) -> bool:
    average = getattr(state, "average", None)
    return jax.tree.structure(params) == jax.tree.structure(average)
