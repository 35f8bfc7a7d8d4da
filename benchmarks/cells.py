"""Many cells on all cores, each remembered by the hash of all that it depends on.

A cell's key is the hash of its family's, its peer's and the experiment's code (as
syntax trees without docstrings, so that a comment costs nothing), for a peer of ours
also of the package's, with the draw, the rates, the seeds and the versions of JAX and
Optax. A finished cell is written whole or not at all: an interrupted run loses the
cells under way, one a core.
"""

import concurrent.futures
import contextlib
import functools
import inspect
import json
import multiprocessing
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import families, hashes, peers, xla
from benchmarks.peers.inner import OPTIMIZERS

CACHE = hashes.ROOT / ".benchmarks"
RECORDING = Path(__file__).parent / "peers" / "recording.py"
# One core a worker: the lanes are the parallelism, threads inside one only quarrel. And
# a cell compiles for longer than it runs, so let the compiler do less: it halves that.
XLA_FLAGS = (
    "--xla_cpu_multi_thread_eigen=false",
    "--xla_backend_optimization_level=1",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",
)
CURVES = ("last", "average", "own")
# What reading a damaged file may raise.
DAMAGE = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


class Cell(NamedTuple):
    """What to run. Two equal cells give the same result."""

    problem: str  # a name in `families`, as "conv@0.1"
    peer: str  # a name that `peers.get` knows
    # (label, a learning rate or a factor for each instance)
    rates: tuple[tuple[str, tuple[float, ...]], ...]
    seeds: tuple[int, ...]
    code: str = ""  # folder that holds another version of the package; "": this one


class Result(NamedTuple):
    """What came out: curves, or why there are none."""

    cell: Cell
    # name -> f32[rates, instances, seeds, evaluations + 1]
    curves: dict[str, np.ndarray]
    error: str | None  # what the peer raised
    seconds: float  # to run all lanes
    compile_seconds: float

    def finals(self, kind: str, label: str) -> np.ndarray:
        """f32[instances, seeds]: the metric at the end of one rate's runs."""
        labels = [name for name, _ in self.cell.rates]
        return self.curves[kind][labels.index(label), ..., -1]


def key(cell: Cell) -> str:
    """The name under which a cell is remembered."""
    import jax
    import optax

    peer, drawn = peers.get(cell.peer), families.get(cell.problem)
    make = peer.make.func if isinstance(peer.make, functools.partial) else peer.make
    source = Path(inspect.getsourcefile(make) or "")
    return hashes.digest(
        [
            hashes.problem_hash(drawn.family),
            # The judge's average is the package's; no oracle looks at it.
            hashes.syntax_hash(hashes.ROOT / "adaptive_optax" / "act" / "average.py"),
            cell.problem,
            sorted(drawn.shape.items()),
            drawn.optimizer,
            cell.peer,
            hashes.syntax_hash(source),
            hashes.law_hash(cell.code) if peer.ours else hashes.syntax_hash(RECORDING),
            cell.rates,
            cell.seeds,
            jax.__version__,
            optax.__version__,
        ]
    )


def compute(cell: Cell) -> Result:
    """Run one cell in this process. A peer that raises is a result too."""
    from benchmarks import experiment

    drawn, peer = families.get(cell.problem), peers.get(cell.peer)
    inner = OPTIMIZERS[drawn.optimizer].factory
    rates = np.array([rates for _, rates in cell.rates], np.float32)
    worlds = families.instances(cell.problem, rates.shape[1])
    try:
        done = experiment.run(drawn.problem, peer, inner, rates, worlds, cell.seeds)
    except Exception as error:  # whatever it is, the peer did not train
        text = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return Result(cell, {}, text, 0.0, 0.0)
    curves = {kind: getattr(done, kind) for kind in CURVES}
    if done.learning_rate is not None:
        curves["learning_rate"] = done.learning_rate
    return Result(cell, curves, None, done.run_seconds, done.compile_seconds)


def save(result: Result, path: Path) -> None:
    """Write a result whole or not at all."""
    meta = {
        "error": result.error,
        "seconds": result.seconds,
        "compile_seconds": result.compile_seconds,
    }
    arrays = {f"curve:{name}": array for name, array in result.curves.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        np.savez_compressed(file, meta=np.array(json.dumps(meta)), **arrays)
    os.replace(file.name, path)


def load(cell: Cell, path: Path) -> Result | None:
    """A remembered result; None where there is none, said aloud where it is damaged."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            meta = json.loads(str(file["meta"]))
            named = {name: file[name] for name in file.files}
        curves = {
            name.removeprefix("curve:"): array
            for name, array in named.items()
            if name.startswith("curve:")
        }
        if not meta["error"] and set(CURVES) - set(curves):
            raise KeyError(f"no {CURVES}")
        return Result(
            cell, curves, meta["error"], meta["seconds"], meta["compile_seconds"]
        )
    except DAMAGE as error:
        print(
            f"{cell.problem} x {cell.peer}: the remembered cell {path.name} is "
            f"damaged ({type(error).__name__}) and is computed again",
            file=sys.stderr,
        )
        return None


def run(
    wanted: Sequence[Cell], *, cache: Path = CACHE, workers: int | None = None
) -> Iterator[tuple[Result, bool]]:
    """Every wanted cell in any order, and whether it was computed just now."""
    paths = {cell: cache / f"{key(cell)}.npz" for cell in wanted}
    missing: dict[str, list[Cell]] = {}
    for cell, path in paths.items():
        result = load(cell, path)
        if result is None:
            missing.setdefault(cell.code, []).append(cell)
        else:
            yield result, False
    for code, some in missing.items():
        for result in _pooled(some, code, workers or os.cpu_count() or 1):
            save(result, paths[result.cell])
            yield result, True


def _pooled(some: Sequence[Cell], code: str, workers: int) -> Iterator[Result]:
    """Compute in worker processes of one core each."""
    if workers == 1 and not code:
        yield from map(compute, some)
        return
    spawn = multiprocessing.get_context("spawn")
    cores = spawn.Queue()
    for core in range(workers):
        cores.put(core)
    with (
        for_children(code),
        concurrent.futures.ProcessPoolExecutor(
            workers, spawn, initializer=take_core, initargs=(cores,)
        ) as pool,
    ):
        waiting = [pool.submit(_compute_fresh, cell) for cell in some]
        try:
            for done in concurrent.futures.as_completed(waiting):
                yield done.result()
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def for_children(code: str) -> Iterator[None]:
    """What a spawned process inherits: flags for XLA, and which package it finds."""
    flags, path = os.environ.get("XLA_FLAGS"), list(sys.path)
    os.environ["XLA_FLAGS"] = " ".join([*(flags or "").split(), *xla.known(XLA_FLAGS)])
    if code:
        sys.path.insert(0, code)
    try:
        yield
    finally:
        sys.path[:] = path
        if flags is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = flags


def take_core(cores: Any) -> None:
    """Give a worker its core."""
    core = cores.get()
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[core % len(allowed)]})


def _compute_fresh(cell: Cell) -> Result:
    """`compute`, and forget the compiled program: it will not be asked for again."""
    import jax

    result = compute(cell)
    jax.clear_caches()
    return result
