"""The judge's vocabulary: what a family of problems is, and what a peer is.

A problem is pure JAX, so that `experiment` can run it under `jax.lax.scan` with
instances, seeds and learning rates vmapped. A peer is anything that a user could train
it with.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

Params = Any
Batch = Any
World = Any  # a pytree of arrays: what one instance of a problem fixes
Shape = dict[str, Any]


class Problem(NamedTuple):
    """What a family builds of a shape. Every function is traced under `jax.vmap`.

    The *shape* (width, depth, batch, horizon) is static: it decides what is compiled.
    The *world* is traced: the teacher, the noise, the scale of the initialisation, the
    rows of the data that are trained on. Instances of one problem differ in it alone,
    and run in one program.

    The metric is lower-is-better and positive (a reward is turned into a regret, a
    likelihood into a divergence). ``floor`` is the noise level of the metric: whatever
    lies below it counts as the floor, so that 1e-12 is no better than 1e-9.
    """

    horizon: int  # steps of a run, a multiple of `EVALUATIONS`
    batch_size: int  # 0: deterministic
    world: Callable[[jax.Array], World]  # key -> what this instance fixes
    init: Callable[[jax.Array, World], Params]
    batch: Callable[[jax.Array, jax.Array, World], Batch]  # (key, i32[] step, world)
    # (params, batch, key) -> (loss, reward or None)
    loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, jax.Array | None]]
    metric: Callable[[Params, jax.Array, World], jax.Array]  # held out, at i32[] step
    metric_name: str
    floor: float  # noise level of the metric, > 0
    accumulate: int = 1  # gradients summed before a step, by `optax.MultiSteps`
    # Batches may be spoilt: everybody but ours runs under `optax.apply_if_finite`.
    guarded: bool = False


class Family(NamedTuple):
    """Problems of one kind; a draw picks one of them."""

    trade: str  # trades weigh alike, and families within a trade
    shapes: dict[str, tuple[Any, ...]]  # name -> what a draw picks from
    build: Callable[[Shape], Problem]
    # The inner optimizers that this trade uses; () is all in proportion of their use.
    optimizers: tuple[str, ...] = ()


EVALUATIONS = 10
"""Times that a run is evaluated, evenly spaced, the last at its end."""


class Peer(NamedTuple):
    """A way to train: ours, or what a user would pick instead.

    ``make(inner, rate, horizon)`` builds the transformation. ``inner`` is the factory
    of the workload's optimizer, ``inner(learning_rate) -> transformation`` (the rate a
    number, a traced scalar or an Optax schedule). ``rate`` is a traced f32[]: a
    learning rate where ``free`` is False, a factor of the peer's own default where it
    is True. ``horizon`` is the number of steps; only a peer with ``knows_horizon`` may
    look at it. ``update`` is called with ``value=`` and, where the workload has one,
    ``reward=``.
    """

    name: str
    make: Callable[
        [Callable[..., optax.GradientTransformation], jax.Array, int],
        optax.GradientTransformationExtraArgs,
    ]
    # (state, params) -> the parameters that the peer says are to be evaluated; None:
    # the last iterate. The judge always evaluates the last iterate and a polynomial
    # average of its own besides.
    eval_params: Callable[[Any, Params], Params] | None = None
    free: bool = False  # learning-rate free: it is given a factor, 1 by default
    knows_horizon: bool = False
    ours: bool = False
    own_optimizer: bool = False  # does not use the workload's inner optimizer
    # state -> {"learning_rate": f32[], ...}: what a control trace shows; None: nothing.
    trace: Callable[[Any], dict[str, jax.Array]] | None = None
    source: str = ""  # where the method and its defaults come from
