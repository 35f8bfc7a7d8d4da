"""Each part of the law taken out once, and a range of trusts in the base rate.

A law is a row of numbers, and numbers may be traced. So a family is compiled once, and
all laws run in that program one after the other: a law more costs its runs and no
compilation. A part is out where its numbers do nothing. Only development draws are run.
"""

import concurrent.futures
import math
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import adaptive_optax as ao
from benchmarks import (
    cells,
    experiment,
    families,
    markdown,
    oracles,
    protocol,
    scoring,
)
from benchmarks.contract import Peer
from benchmarks.peers.inner import OPTIMIZERS
from benchmarks.scoring import Place

Change = Mapping[str, float]  # "part.number" or "number" -> what it is instead
WHOLE = "nothing"
PARTS: dict[str, Change] = {
    "the warm-up": {"warmup_steps": 1},
    "the audit's failures": {"audit.max_failures": 0},
    "its patience beyond the warm-up": {"audit.steps": 20},
    "its test for opposition": {"audit.opposed": math.inf},
    "skipping": {"skip.noises": math.inf},
    "the trial": {"trial.patience": 2**24, "trial.start_patience": 2**24},
    "the steep early climb": {"search.early_rate": 0.06},
    "the climb's proof": {"search.reach": math.inf},
    "search": {"search.rate": 1e-9, "search.early_rate": 1e-9},
    "nudge": {"nudge.rate": 1e-9},
    "settle": {"settle.power": 0},
    "the average's window": {"average.shrink": 0},
}
TRUSTS: dict[str, Change] = {
    f"{trust:g}": {"trust": trust} for trust in (1.5, 3.0, 4.0, 8.0, 12.0, math.inf)
}
HEAD = (*protocol.FACTORS, "default", "x0.3 to x3", "all rates")
_STATIC = (("average", "every"),)  # a Python number: how often a branch is taken


def numbers(law: Any = ao.Law(), above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:  # noqa: B008
    """The paths of a law's numbers that may be traced."""
    found: list[tuple[str, ...]] = []
    for name in law._fields:
        path, value = (*above, name), getattr(law, name)
        found += numbers(value, path) if hasattr(value, "_fields") else [path]
    return [path for path in found if path not in _STATIC]


def get(law: Any, path: tuple[str, ...]) -> Any:
    """One number of a law."""
    for name in path:
        law = getattr(law, name)
    return law


def put(law: Any, path: tuple[str, ...], value: Any) -> Any:
    """The law with one number replaced."""
    name, *rest = path
    value = put(getattr(law, name), tuple(rest), value) if rest else value
    return law._replace(**{name: value})


def row(change: Change) -> list[float]:
    """A changed law as a row of numbers.

    Raises:
      KeyError: If the law has no such number.
    """
    law, paths = ao.Law(), numbers()
    for name, value in change.items():
        if tuple(name.split(".")) not in paths:
            raise KeyError(f"the law has no number {name!r}.")
        law = put(law, tuple(name.split(".")), value)
    return [float(get(law, path)) for path in paths]


def peer_of(traced: Any) -> Peer:
    """Ours under a law of traced numbers."""
    law = ao.Law()
    for path, value in zip(numbers(), traced, strict=True):
        law = put(law, path, value)

    def make(inner, rate, horizon):
        del horizon
        return ao.adaptive_scheduler(inner, learning_rate=rate, law=law)

    return Peer("law", make, eval_params=ao.eval_params, ours=True, source="")


def finals(
    problem: str, laws: list[Change], lanes: Any, seeds: tuple[int, ...]
) -> tuple[str, list[dict[str, np.ndarray]]]:
    """Final metrics of one problem: law -> label -> f64[instances, seeds]."""
    drawn = families.get(problem)
    rates = np.asarray([rates for _, rates in lanes], np.float32)
    start, end = experiment.run_laws(
        drawn.problem,
        peer_of,
        OPTIMIZERS[drawn.optimizer].factory,
        rates,
        families.instances(problem, rates.shape[1]),
        seeds,
        np.asarray([row(law) for law in laws], np.float32),
    )
    end = scoring.cleaned(end, drawn.problem.floor, start)
    labels = [label for label, _ in lanes]
    return problem, [dict(zip(labels, of_law, strict=True)) for of_law in end]


def run(
    problems: tuple[str, ...],
    laws: list[Change],
    *,
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> Iterator[tuple[str, list[dict[str, np.ndarray]]]]:
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
            pool.submit(finals, name, laws, protocol.lanes(name, "nudge", tuned), seeds)
            for name in problems
        ]
        for done in concurrent.futures.as_completed(waiting):
            yield done.result()


def table(
    problems: tuple[str, ...],
    *,
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> str:
    """Run every law and write both tables as Markdown."""
    laws = {WHOLE: {}} | PARTS | TRUSTS
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for name, results in run(
        problems, list(laws.values()), seeds=seeds, workers=workers
    ):
        found[name] = results
        print(f"{len(found)}/{len(problems)} {name}", flush=True)
    places = {
        name: Place(families.get(name).trade, families.get(name).family, name)
        for name in problems
    }

    def over_whole(index: int) -> tuple[str, ...]:
        """A law over the whole one: above 1 the part earns its place."""
        logs = {
            label: scoring.log_ratios(
                *({places[n]: found[n][i][label] for n in problems} for i in (index, 0))
            )
            for label in (*protocol.FACTORS, "default")
        }
        pools = [
            [logs[label] for label in few] for few in (protocol.NEAR, protocol.FACTORS)
        ]
        means = [scoring.mean(one) for one in logs.values()]
        ends = [scoring.mean(scoring.pooled(pool)) for pool in pools]
        return (*(f"{m.value:.3f}" for m in means), *(f"{m:.3f}" for m in ends))

    rows = {name: over_whole(i) for i, name in enumerate(laws)}
    return "\n\n".join(
        [
            f"{len(problems)} development draws, {protocol.INSTANCES} instances, "
            f"{len(seeds)} seeds; geometric means of the final metric over that of the "
            f"whole law, ratios clipped to [{1 / scoring.CLIP:g}, {scoring.CLIP:g}], "
            "trades weigh alike; 95 % intervals. Above 1 the part earns its place.",
            "## Without one part",
            markdown.table(("without", *HEAD), [(p, *rows[p]) for p in PARTS]),
            "## The trust in the base rate",
            markdown.table(("trust", *HEAD), [(t, *rows[t]) for t in TRUSTS]),
        ]
    )
