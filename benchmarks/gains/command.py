"""``python -m benchmarks gains``."""

import concurrent.futures
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import (
    cells,
    compare,
    families,
    hashes,
    markdown,
    oracles,
    protocol,
    scoring,
)
from benchmarks.cells import Cell
from benchmarks.progress import progress

RESULTS = Path(__file__).parent.parent / "results"
SEEDS = 10
# One of each kind, under optimizers whose momentum can be set.
HANDFUL = ("quadratic", "teacher", "tabular", "digits", "autoencoder", "shift")

Key = tuple[int, str, str]  # study, work, arm


def gains(
    *,
    seeds: int = SEEDS,
    study: tuple[str, ...] = (),
    write: bool = False,
    families_of: tuple[str, ...] = HANDFUL,
    every_family: bool = False,
    workers: int | None = None,
) -> None:
    """What momentum, dither and both earn and cost, over the same runs without them.

    Args:
      seeds: Of each small work.
      study: Only those whose titles contain one of these. Their tables are printed, and
        the page is left as it is.
      write: Put the tables of ``study`` into the page, which keeps all others.
      families_of: Families whose development draws show the harm.
      every_family: All of them.
      workers: Processes, one a core by default.
    """
    from benchmarks.gains import page
    from benchmarks.gains.arms import STUDIES

    if seeds < 2:
        raise ValueError(f"`seeds` must be at least 2, got {seeds}; try --seeds 10.")
    if write and not study:
        raise ValueError("a run of all is written anyway; give --write with --study.")
    protocol.known(families_of, families.NAMES, "family")
    chosen = [
        i
        for i, one in enumerate(STUDIES)
        if not study or any(word in one.title for word in study)
    ]
    found = _trained(chosen, seeds, workers)
    law, path = hashes.law_hash() if study else "", RESULTS / "gains.md"
    parts = []
    for i in chosen:
        of_study = {key[1:]: ends for key, ends in found.items() if key[0] == i}
        parts.append(page.table(STUDIES[i], of_study, seeds, law))
    if not study:
        names = families.NAMES if every_family else families_of
        parts.append(_development(names, workers))
    print("\n\n".join(parts))
    if study:
        if write:
            path.write_text(page.with_sections(path.read_text(), parts))
            print(f"wrote {path}")
        return
    head = (
        "# What each mechanism earns and costs\n\n"
        f"`python -m benchmarks gains{' --every-family' if every_family else ''}`, law "
        f"`{hashes.law_hash()}`. Ratios of the final metric to that of the same run "
        "without the mechanism; below 1 it helps. Geometric means with 95 % intervals "
        "of the mean over the seeds. A table that names a law was run by itself, with "
        "`--study`."
    )
    path.write_text("\n\n".join([head, *parts]) + "\n")
    print(f"wrote {path}")


def one(key: Key, seeds: int) -> tuple[Key, np.ndarray]:
    """f64[momenta, seeds]: the final metrics of an arm on a work."""
    from benchmarks.gains import train
    from benchmarks.gains.arms import STUDIES

    index, work, arm = key
    study = STUDIES[index]
    return key, train.finals(
        study.works[work](),
        study.optimizer,
        study.arms[arm],
        momenta=study.momenta,
        seeds=seeds,
    )


def remembered(key: Key, seeds: int) -> Path:
    """The file that keeps a result, until the law or a work changes."""
    here = Path(__file__).parent
    shown = ("command.py", "figures.py", "page.py")
    runs = [f for f in sorted(here.glob("*.py")) if f.name not in shown]
    code = [hashes.syntax_hash(file) for file in runs]
    name = hashes.digest([hashes.law_hash(), code, key, seeds])
    return cells.CACHE / "gains" / f"{name}.npy"


def _trained(
    chosen: Sequence[int], seeds: int, workers: int | None
) -> dict[Key, np.ndarray]:
    from benchmarks.gains.arms import STUDIES

    keys = [
        (i, work, arm)
        for i in chosen
        for work in STUDIES[i].works
        for arm in STUDIES[i].arms
    ]
    workers = workers or os.cpu_count() or 1
    spawn = multiprocessing.get_context("spawn")
    cores = spawn.Queue()
    for core in range(workers):
        cores.put(core)
    kept = {key: remembered(key, seeds) for key in keys}
    found = {key: np.load(path) for key, path in kept.items() if path.exists()}
    with (
        cells.for_children(""),
        concurrent.futures.ProcessPoolExecutor(
            workers, spawn, initializer=cells.take_core, initargs=(cores,)
        ) as pool,
    ):
        waiting = [pool.submit(one, key, seeds) for key in keys if key not in found]
        for done in concurrent.futures.as_completed(waiting):
            key, metrics = done.result()
            found[key] = metrics
            kept[key].parent.mkdir(parents=True, exist_ok=True)
            np.save(kept[key], metrics)
            print(f"{len(found)}/{len(keys)} {key[1]}, {key[2]}", flush=True)
    return found


def _development(names: Sequence[str], workers: int | None) -> str:
    """Each mechanism over `nudge` on development draws, for the harm."""
    from benchmarks.gains.arms import DEVELOPMENT

    problems = families.draws(families.DEVELOPMENT, 1, tuple(names))
    tuned = oracles.compute(problems, workers=workers)
    sides = {"nudge": "nudge", **DEVELOPMENT}
    wanted = {
        (name, side): Cell(
            name, peer, protocol.lanes(name, "nudge", tuned), protocol.SEEDS
        )
        for name in problems
        for side, peer in sides.items()
    }
    todo = list(dict.fromkeys(wanted.values()))
    done = {r.cell: r for r, _ in progress(cells.run(todo, workers=workers), todo)}
    rows, pooled = [], {side: [] for side in DEVELOPMENT}
    for name in problems:
        drawn, row = families.get(name), []
        for side in DEVELOPMENT:
            result = done[wanted[name, side]]
            if result.error is not None:
                row.append("no momentum to set")
                continue
            logs = _logs(result, done[wanted[name, "nudge"]])
            pooled[side].append(logs)
            row.append(f"{np.exp(logs.mean()):.3f} (worst {np.exp(logs.max()):.2f})")
        rows.append((name, drawn.optimizer, *row))
    means = [
        f"{np.exp(np.mean([x.mean() for x in logs])):.3f} "
        f"(worst draw {np.exp(max(x.mean() for x in logs)):.3f})"
        for logs in pooled.values()
    ]
    rows.append(("**all**", "", *means))
    return "\n\n".join(
        [
            "## Development draws",
            f"Over the default law, {protocol.INSTANCES} instances, base rates "
            f"{', '.join(compare.LABELS)}; the geometric mean and the worst instance. "
            "Ratios count within a tenth and tenfold.",
            markdown.table(("draw", "optimizer", *DEVELOPMENT), rows),
        ]
    )


def _logs(result: cells.Result, base: cells.Result) -> np.ndarray:
    """f64[instances]: mean log ratio over all rates."""
    logs = [
        np.log(compare.finals(result, label) / compare.finals(base, label))
        for label in compare.LABELS
    ]
    bound = np.log(scoring.CLIP)
    return np.clip(np.stack(logs), -bound, bound).mean(axis=(0, 2))
