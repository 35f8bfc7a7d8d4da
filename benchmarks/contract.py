"""The judge's vocabulary: what a workload is, and what a peer is.

A workload is pure JAX, so that `experiment` can run it under `jax.lax.scan` with seeds
and learning rates vmapped. A peer is anything that a user could train it with.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import optax

Params = Any
Batch = Any

Split = Literal["development", "held_out"]


class Workload(NamedTuple):
    """A training problem. Every function is traced under `jax.vmap`.

    The metric is lower-is-better and positive where it makes sense (a reward is turned
    into a regret). ``floor`` is the noise level of the metric: whatever lies below it
    counts as the floor, so that a run at 1e-12 is no better than one at 1e-9.
    """

    name: str
    split: Split  # written down before any tuning; held-out ones are never tuned on
    optimizer: str  # the inner optimizer, a key of `peers.inner.OPTIMIZERS`
    horizon: int  # steps of a full run, a multiple of `EVALUATIONS`
    batch_size: int  # 0: deterministic
    init: Callable[[jax.Array], Params]  # key -> parameters
    batch: Callable[[jax.Array, jax.Array], Batch]  # (key, i32[] step) -> batch
    # (params, batch, key) -> (loss, reward or None)
    loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, jax.Array | None]]
    metric: Callable[[Params, jax.Array], jax.Array]  # (params, i32[] step) -> held-out
    metric_name: str  # of the held-out metric, for the report
    floor: float  # noise level of the metric
    # target = oracle (start / oracle)^slack, of the tuned cosine's median final metric
    # and the metric before training: this share of the way back, on a log scale.
    target_slack: float = 0.05
    disturbed_at: int | None = None  # step of the shift, or of the first spike


EVALUATIONS = 40
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
