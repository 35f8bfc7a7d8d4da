"""One cell: a peer trains a problem, from every rate, instance and seed at once.

A lane is one run. All lanes of a cell are one compiled program: the steps under
`jax.lax.scan`; the learning rates, the instances and the seeds under `jax.vmap`. Lanes
of one instance and seed start from the same parameters and see the same batches,
whoever the peer is. Another instance has others under the same seed: what a seed does
by chance is then no property of the whole draw.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptive_optax.act import average as averaging
from benchmarks.contract import EVALUATIONS, Peer, Problem


class Curves(NamedTuple):
    """The held-out metric at `EVALUATIONS` + 1 steps, the first before any step."""

    last: np.ndarray  # f32[rates, instances, seeds, evaluations + 1], last iterate
    average: np.ndarray  # the same, of the judge's polynomial average
    own: np.ndarray  # the same, of the parameters the peer names; `last` if it does not
    learning_rate: np.ndarray | None  # f32[rates, instances, seeds, evaluations + 1]
    compile_seconds: float
    run_seconds: float


def run(
    problem: Problem,
    peer: Peer,
    inner: Callable[..., optax.GradientTransformation],
    rates: np.ndarray,
    instances: Sequence[int],
    seeds: Sequence[int],
) -> Curves:
    """Train from every rate, instance and seed; what the peer raises comes through.

    Args:
      problem: What is trained.
      peer: Who trains it.
      inner: The factory of the inner optimizer.
      rates: f32[rates, instances].
      instances: Seeds of the worlds.
      seeds: Of initialisation and batches.
    """
    arguments = _arguments(rates, instances, seeds)
    shape = (len(rates), len(instances), len(seeds), EVALUATIONS + 1)
    start = time.perf_counter()
    every = jax.jit(functools.partial(_every, problem, peer, inner))
    compiled = every.lower(*arguments).compile()
    ready = time.perf_counter()
    metrics, rate = jax.block_until_ready(compiled(*arguments))
    done = time.perf_counter()
    last, average, own = (np.asarray(metrics[..., i]).reshape(shape) for i in range(3))
    return Curves(
        last=last,
        average=average,
        own=own,
        learning_rate=None if rate is None else np.asarray(rate).reshape(shape),
        compile_seconds=ready - start,
        run_seconds=done - ready,
    )


def run_laws(
    problem: Problem,
    peer_of: Callable[[jax.Array], Peer],
    inner: Callable[..., optax.GradientTransformation],
    rates: np.ndarray,
    instances: Sequence[int],
    seeds: Sequence[int],
    laws: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Train under many laws in one program, one law after the other.

    Args:
      problem: What is trained.
      peer_of: The peer of a law, which is a row of traced numbers.
      inner: As for `run`.
      rates: f32[rates, instances].
      instances: Seeds of the worlds.
      seeds: Of initialisation and batches.
      laws: f32[laws, numbers].

    Returns:
      The metric of the peer's own parameters before and after the training,
      f32[laws, rates, instances, seeds] each.
    """

    def of_law(law: jax.Array, *arguments: jax.Array) -> jax.Array:
        metrics, _ = _every(problem, peer_of(law), inner, *arguments)
        return metrics[..., jnp.asarray([0, -1]), 2]

    def all_laws(laws: jax.Array, *arguments: jax.Array) -> jax.Array:
        return jax.lax.map(lambda law: of_law(law, *arguments), laws)

    arguments = _arguments(rates, instances, seeds)
    found = np.asarray(jax.jit(all_laws)(jnp.asarray(laws, jnp.float32), *arguments))
    found = found.reshape(len(laws), len(rates), len(instances), len(seeds), 2)
    return found[..., 0], found[..., 1]


def _arguments(
    rates: np.ndarray, instances: Sequence[int], seeds: Sequence[int]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return (
        jnp.asarray(rates, jnp.float32),
        jnp.asarray(instances, jnp.uint32),
        jnp.asarray(seeds, jnp.uint32),
    )


def _every(
    problem: Problem,
    peer: Peer,
    inner: Callable[..., optax.GradientTransformation],
    rates: jax.Array,
    instances: jax.Array,
    seeds: jax.Array,
) -> tuple[jax.Array, jax.Array | None]:
    """All lanes: metrics f32[rates, pairs, evaluations + 1, 3], and learning rates.

    Instances and seeds share an axis, for each further one is traced once more. What
    the rates have in common, worlds and batches, is computed once.
    """
    pairs = len(instances) * len(seeds)
    worlds = jax.vmap(lambda seed: problem.world(jax.random.key(seed)))(instances)
    worlds = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, len(seeds), axis=0, total_repeat_length=pairs),
        worlds,
    )
    rates = jnp.repeat(rates, len(seeds), axis=1, total_repeat_length=pairs)
    keys = jax.vmap(lambda one: jax.vmap(functools.partial(_key, one))(seeds))
    lanes = jax.vmap(jax.vmap(_lane(problem, peer, inner)), in_axes=(0, None, None))
    return lanes(rates, worlds, keys(instances).reshape(pairs))


def _key(instance: jax.Array, seed: jax.Array) -> jax.Array:
    """The key of an instance's initialisation and batches."""
    return jax.random.fold_in(jax.random.key(seed), instance)


def _lane(
    problem: Problem, peer: Peer, inner: Callable[..., optax.GradientTransformation]
) -> Callable[..., tuple[jax.Array, jax.Array | None]]:
    """(rate, world, key) -> f32[evaluations + 1, 3] metrics, f32[evaluations + 1]."""
    block = problem.horizon // EVALUATIONS
    steps = problem.horizon // problem.accumulate

    def lane(rate: jax.Array, world: Any, key: jax.Array):
        keys = jax.random.split(key, 3)
        init_key, batch_key, loss_key = keys[0], keys[1], keys[2]
        tx = optax.with_extra_args_support(peer.make(inner, rate, steps))
        # What a practitioner does where a batch may be bad; ours looks after itself.
        guarded = problem.guarded and not peer.ours
        if guarded:
            tx = optax.apply_if_finite(tx, max_consecutive_errors=problem.horizon)
        if problem.accumulate > 1:
            tx = optax.MultiSteps(tx, problem.accumulate)
        params = problem.init(init_key, world)

        def peers_own(state: Any) -> Any:
            state = state.inner_opt_state if problem.accumulate > 1 else state
            return state.inner_state if guarded else state

        def measure(carry: Any, step: jax.Array) -> tuple[jax.Array, Any]:
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
            metrics = jax.vmap(problem.metric, (0, None, None))(stacked, step, world)
            rate = None
            if peer.trace is not None:
                rate = peer.trace(peers_own(state))["learning_rate"]
            return metrics.astype(jnp.float32), rate

        def train(carry: Any, step: jax.Array):
            params, state, average = carry
            batch = problem.batch(batch_key, step, world)
            (value, reward), grads = jax.value_and_grad(problem.loss, has_aux=True)(
                params, batch, jax.random.fold_in(loss_key, step)
            )
            feedback: dict[str, Any] = {
                "value": value,
                "value_fn": lambda params: problem.loss(
                    params, batch, jax.random.fold_in(loss_key, step)
                )[0],
            }
            if reward is not None:
                feedback["reward"] = reward
            updates, state = tx.update(grads, state, params, **feedback)
            params = optax.apply_updates(params, updates)
            return (params, state, averaging.absorb(average, params)), None

        def measure_and_train(carry: Any, first: jax.Array):
            measured = measure(carry, first)
            carry, _ = jax.lax.scan(train, carry, first + jnp.arange(block))
            return carry, measured

        carry = (params, tx.init(params), averaging.init_average(params))
        # The last block of steps is not looked at: cheaper than to compile the metric
        # once more after the loop.
        firsts = block * jnp.arange(EVALUATIONS + 1)
        _, measured = jax.lax.scan(measure_and_train, carry, firsts)
        return measured

    return lane
