"""Many laws of ours in one program: a law is a row of numbers, and these are traced.

A family is compiled once, and all laws run in that program one after the other. So one
law more costs its runs and no compilation.
"""

import concurrent.futures
import functools
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import adaptive_optax as ao
from benchmarks import cells, experiment, families, oracles, protocol, scoring
from benchmarks.contract import Peer
from benchmarks.peers.inner import OPTIMIZERS

Change = Mapping[str, float]  # "part.number" or "number" -> what it is instead
Finals = list[dict[str, np.ndarray]]  # law -> label -> f64[instances, seeds]
# Python numbers: how often a branch is taken, and a decay, whose log is a constant.
_STATIC = (("average", "every"), ("ema_decay",))


def numbers(law: Any = ao.Law(), above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:  # noqa: B008
    """The paths of a law's numbers that may be traced."""
    found: list[tuple[str, ...]] = []
    for name in law._fields:
        path, value = (*above, name), getattr(law, name)
        if hasattr(value, "_fields"):
            found += numbers(value, path)
        elif value is not None:  # which is no number
            found.append(path)
    return [path for path in found if path not in _STATIC]


def get(law: Any, path: Sequence[str]) -> Any:
    """One number of a law."""
    return functools.reduce(getattr, path, law)


def put(law: Any, path: Sequence[str], value: Any) -> Any:
    """The law with one number replaced."""
    name, *rest = path
    return law._replace(
        **{name: put(getattr(law, name), rest, value) if rest else value}
    )


def row(change: Change) -> list[float]:
    """A changed law as a row of numbers.

    Raises:
      KeyError: If the law has no such number.
    """
    law, paths = ao.Law(), numbers()
    for name, value in change.items():
        if tuple(name.split(".")) not in paths:
            raise KeyError(f"the law has no number {name!r}.")
        law = put(law, name.split("."), value)
    return [float(get(law, path)) for path in paths]


def peer_of(traced: jax.Array) -> Peer:
    """Ours under a law of traced numbers, f32[numbers]."""
    law = ao.Law()
    for i, path in enumerate(numbers()):
        law = put(law, path, traced[i])

    def make(inner, rate, horizon):
        del horizon
        return ao.adaptive_scheduler(inner, learning_rate=rate, law=law)

    return Peer("law", make, eval_params=ao.eval_params, ours=True, source="")


def finals(
    problem: str, changes: Sequence[Change], lanes: Any, seeds: Sequence[int]
) -> tuple[str, Finals]:
    """Train one problem under every law, from every labelled rate."""
    drawn = families.get(problem)
    inner = OPTIMIZERS[drawn.optimizer].factory
    rates = np.asarray([rates for _, rates in lanes], np.float32)
    count = rates.shape[1]
    pairs = count * len(seeds)

    def ends(law: jax.Array, rates: jax.Array, instances: jax.Array, seeds: jax.Array):
        worlds = jax.vmap(lambda i: drawn.problem.world(jax.random.key(i)))(instances)
        worlds = jax.tree.map(
            lambda leaf: jnp.repeat(
                leaf, len(seeds), axis=0, total_repeat_length=pairs
            ),
            worlds,
        )
        rates = jnp.repeat(rates, len(seeds), axis=1, total_repeat_length=pairs)
        keys = jax.vmap(
            lambda one: jax.vmap(functools.partial(experiment._key, one))(seeds)
        )(instances).reshape(pairs)
        lane = experiment._lane(drawn.problem, peer_of(law), inner)
        metrics, _ = jax.vmap(jax.vmap(lane), in_axes=(0, None, None))(
            rates, worlds, keys
        )
        return metrics[..., jnp.asarray([0, -1]), 2]

    @jax.jit
    def all_laws(laws: jax.Array, *arguments: jax.Array) -> jax.Array:
        return jax.lax.map(lambda law: ends(law, *arguments), laws)

    found = np.asarray(
        all_laws(
            jnp.asarray([row(change) for change in changes], jnp.float32),
            jnp.asarray(rates),
            jnp.asarray(families.instances(problem, count), jnp.uint32),
            jnp.asarray(seeds, jnp.uint32),
        )
    ).reshape(len(changes), len(rates), count, len(seeds), 2)
    end = scoring.cleaned(found[..., 1], drawn.problem.floor, found[..., 0])
    labels = [label for label, _ in lanes]
    return problem, [dict(zip(labels, of_law, strict=True)) for of_law in end]


def run(
    problems: tuple[str, ...],
    changes: Sequence[Change],
    *,
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> Iterator[tuple[str, Finals]]:
    """`finals` of every problem, in any order, on all cores."""
    tuned = oracles.compute(problems, workers=workers)
    workers = workers or os.cpu_count() or 1
    spawn = multiprocessing.get_context("spawn")
    cores = spawn.Queue()
    for core in range(workers):
        cores.put(core)
    with (
        cells.for_children(""),
        concurrent.futures.ProcessPoolExecutor(
            workers, spawn, initializer=cells.take_core, initargs=(cores,)
        ) as pool,
    ):
        waiting = [
            pool.submit(
                finals, name, changes, protocol.lanes(name, "nudge", tuned), seeds
            )
            for name in problems
        ]
        for done in concurrent.futures.as_completed(waiting):
            yield done.result()
