"""The programs of the table, on all cores, each remembered by what it depends on."""

import concurrent.futures
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import cells, hashes
from benchmarks.faults.listed import FAULTS

HERE = Path(__file__).parent
FILES = (
    *(HERE / f"{name}.py" for name in ("fault", "tasks", "training", "arms")),
    *(
        HERE.parent / "families" / f"_{name}.py"
        for name in ("data", "layers", "random")
    ),
    *(
        HERE.parent / "peers" / f"{name}.py"
        for name in ("inner", "recording", "loss_driven", "ours")
    ),
)


class Program(NamedTuple):
    """One program. Two equal programs give the same result."""

    task: str  # a key of `tasks.TASKS`
    optimizer: str  # with it, a key of `tasks.RATES`
    arm: str  # a key of `arms.ARMS`
    faults: tuple[str, ...]  # keys of `FAULTS`, all of them structural or none
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        """Say what it is in a word each."""
        return f"{self.task} x {self.optimizer} x {self.arm} x {len(self.faults)}"


def programs(
    tasks: Sequence[str],
    optimizers: Sequence[str],
    arms: Sequence[str],
    faults: Sequence[str],
    seeds: Sequence[int],
) -> list[Program]:
    """What a table needs; ours, which take longest, first."""
    structural = tuple(name for name in faults if FAULTS[name].is_structural())
    others = tuple(name for name in faults if name not in structural)
    return [
        Program(task, optimizer, arm, group, tuple(seeds))
        for arm in reversed(arms)
        for group in (others, structural)
        for task in tasks
        for optimizer in optimizers
        if group
    ]


def key(program: Program) -> str:
    """The name under which a program's result is remembered."""
    import jax
    import optax

    from benchmarks.faults.arms import ARMS
    from benchmarks.faults.training import EVERY, HORIZON

    faults = [[float(number) for number in FAULTS[name]] for name in program.faults]
    return hashes.digest(
        [
            *(hashes.syntax_hash(file) for file in FILES),
            hashes.law_hash() if ARMS[program.arm].ours else "",
            program,
            faults,
            (HORIZON, EVERY),
            (jax.__version__, optax.__version__),
        ]
    )


def compute(program: Program) -> tuple[np.ndarray, float]:
    """Run one program in this process: its accuracies and the seconds that it took."""
    import jax

    from benchmarks.faults import training
    from benchmarks.faults.arms import ARMS
    from benchmarks.faults.tasks import RATES, TASKS

    start = time.perf_counter()
    found = training.accuracies(
        TASKS[program.task],
        program.optimizer,
        RATES[program.task, program.optimizer],
        ARMS[program.arm],
        [FAULTS[name] for name in program.faults],
        program.seeds,
    )
    jax.clear_caches()  # the program will not be asked for again
    return found, time.perf_counter() - start


def run(
    wanted: Sequence[Program], *, cache: Path = cells.CACHE, workers: int | None = None
) -> Iterator[tuple[Program, np.ndarray, float | None]]:
    """Every wanted program, its accuracies, and its seconds if it ran just now."""
    paths = {program: cache / f"faults-{key(program)}.npy" for program in wanted}
    missing = []
    for program, path in paths.items():
        try:
            yield program, np.load(path), None
        except (OSError, ValueError, EOFError):  # not there, or damaged
            missing.append(program)
    for program, found, seconds in _pooled(missing, workers or os.cpu_count() or 1):
        _save(found, paths[program])
        yield program, found, seconds


def _save(found: np.ndarray, path: Path) -> None:
    """Write a result whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        np.save(file, found)
    os.replace(file.name, path)


def _pooled(
    some: Sequence[Program], workers: int
) -> Iterator[tuple[Program, np.ndarray, float]]:
    """Compute in worker processes of one core each."""
    if workers == 1 or len(some) < 2:
        for program in some:
            yield program, *compute(program)
        return
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
        waiting = {pool.submit(compute, program): program for program in some}
        try:
            for done in concurrent.futures.as_completed(waiting):
                yield waiting[done], *done.result()
        finally:
            for future in waiting:
                future.cancel()
