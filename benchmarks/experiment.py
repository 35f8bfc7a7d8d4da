"""One cell: a peer trains a workload, from every rate and seed at once.

A lane is one run. All lanes of a cell are one compiled program: the steps under
`jax.lax.scan`, the seeds and the learning rates under `jax.vmap`. Lanes with the same
seed start from the same parameters and see the same batches, whoever the peer is.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptive_optax.act import average as averaging
from benchmarks.contract import EVALUATIONS, Peer, Workload

TRACED = ("learning_rate", "momentum", "sigma")  # what is kept of a peer's trace


class Curves(NamedTuple):
    """The held-out metric at `EVALUATIONS` + 1 steps, the first before any step."""

    last: np.ndarray  # f32[rates, seeds, evaluations + 1] of the last iterate
    average: np.ndarray  # the same, of the judge's polynomial average
    own: np.ndarray  # the same, of the parameters the peer names; `last` if it does not
    traces: dict[str, np.ndarray]  # f32[rates, horizon] of the first seed
    compile_seconds: float
    run_seconds: float


def run(
    workload: Workload,
    peer: Peer,
    inner: Callable[..., optax.GradientTransformation],
    rates: Sequence[float],
    seeds: Sequence[int],
) -> Curves:
    """Train from every rate and seed; whatever the peer raises comes through."""
    lane = _lane(workload, peer, inner)
    by_rate = jax.vmap(jax.vmap(lane, in_axes=(None, 0)), in_axes=(0, None))
    arguments = jnp.asarray(rates, jnp.float32), jnp.asarray(seeds, jnp.uint32)
    start = time.perf_counter()
    compiled = jax.jit(by_rate).lower(*arguments).compile()
    ready = time.perf_counter()
    metrics, traces = jax.block_until_ready(compiled(*arguments))
    done = time.perf_counter()
    last, average, own = (np.asarray(metrics[..., i]) for i in range(3))
    return Curves(
        last=last,
        average=average,
        own=own,
        traces={name: np.asarray(trace)[:, 0] for name, trace in traces.items()},
        compile_seconds=ready - start,
        run_seconds=done - ready,
    )


def _lane(
    workload: Workload, peer: Peer, inner: Callable[..., optax.GradientTransformation]
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]:
    """(rate, seed) -> f32[evaluations + 1, 3] metrics and f32[horizon] traces."""
    block, rest = divmod(workload.horizon, EVALUATIONS)
    if rest:
        raise ValueError(
            f"{workload.name}: `horizon` must be a multiple of {EVALUATIONS}, got "
            f"{workload.horizon}."
        )

    def lane(rate: jax.Array, seed: jax.Array):
        keys = jax.random.split(jax.random.key(seed), 3)
        init_key, batch_key, loss_key = keys[0], keys[1], keys[2]
        tx = optax.with_extra_args_support(peer.make(inner, rate, workload.horizon))
        # What a practitioner does where a batch may be bad; ours looks after itself.
        guarded = workload.disturbed_at is not None and not peer.ours
        if guarded:
            tx = optax.apply_if_finite(tx, max_consecutive_errors=workload.horizon)
        params = workload.init(init_key)

        def peers_own(state: Any) -> Any:
            return state.inner_state if guarded else state

        def measure(carry: Any, step: jax.Array) -> jax.Array:
            params, state, average = carry
            averaged = jax.tree.map(  # before the first step there is nothing in it
                lambda a, p: jnp.where(average.average_count > 0, a.astype(p.dtype), p),
                average.average,
                params,
            )
            own = params
            if peer.eval_params is not None:
                own = peer.eval_params(peers_own(state), params)
            # As one: three copies of the metric would be compiled three times.
            stacked = jax.tree.map(lambda *p: jnp.stack(p), params, averaged, own)
            metrics = jax.vmap(workload.metric, (0, None))(stacked, step)
            return metrics.astype(jnp.float32)

        def train(carry: Any, step: jax.Array):
            params, state, average = carry
            batch = workload.batch(batch_key, step)
            (value, reward), grads = jax.value_and_grad(workload.loss, has_aux=True)(
                params, batch, jax.random.fold_in(loss_key, step)
            )
            feedback = {"value": value}
            if reward is not None:
                feedback["reward"] = reward
            updates, state = tx.update(grads, state, params, **feedback)
            params = optax.apply_updates(params, updates)
            average = averaging.absorb(average, params)
            trace = {} if peer.trace is None else peer.trace(peers_own(state))
            trace = {name: trace[name] for name in TRACED if name in trace}
            return (params, state, average), trace

        def measure_and_train(carry: Any, first: jax.Array):
            metrics = measure(carry, first)
            carry, trace = jax.lax.scan(train, carry, first + jnp.arange(block))
            return carry, (metrics, trace)

        carry = (params, tx.init(params), averaging.init_average(params))
        # The last block of steps is not looked at: cheaper than to compile the metric
        # once more after the loop.
        firsts = block * jnp.arange(EVALUATIONS + 1)
        _, (metrics, traces) = jax.lax.scan(measure_and_train, carry, firsts)
        return metrics, jax.tree.map(lambda t: t.ravel()[: -block or None], traces)

    return lane
