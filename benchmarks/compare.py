"""Two configurations of ours side by side, with intervals.

A side is a peer's name (``nudge``), options of `adaptive_scheduler`
(``mode=search,slew=0.1``; ``mode=nudge`` is the default law), or either with ``@REV``:
the package as it was at that commit.
"""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cells, peers, protocol, scoring, workloads
from benchmarks.cells import Cell, Result

LABELS = ("default", *protocol.MISSPECIFIED)


def sides(text: str, folder: Path) -> tuple[str, str]:
    """(peer, folder with the package or "") that a side's text names."""
    peer, _, revision = text.partition("@")
    peer = f"ours({peer})" if "=" in peer and "(" not in peer else peer
    if not peers.get(peer).ours:
        raise ValueError(
            f"{peer!r} is not ours; the report sets us beside others. Try "
            "python -m benchmarks compare nudge mode=search,slew=0.1."
        )
    return peer, checked_out(revision, folder) if revision else ""


def checked_out(revision: str, folder: Path) -> str:
    """The package at a commit, unpacked below ``folder``."""
    found = subprocess.run(
        ["git", "archive", revision, "adaptive_optax"],
        cwd=cells.ROOT,
        capture_output=True,
        check=False,
    )
    if found.returncode:
        raise ValueError(
            f"no package at revision {revision!r}: {found.stderr.decode().strip()}; "
            "try python -m benchmarks compare nudge nudge@HEAD~1."
        )
    target = Path(tempfile.mkdtemp(dir=folder))
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(target, filter="data")
    return str(target)


def compare(
    a: str,
    b: str,
    names: tuple[str, ...],
    *,
    progress: Callable[..., Iterator[tuple[Result, bool]]],
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> str:
    """Run what is missing and write the comparison as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        oracles = protocol.compute_oracles(names, progress=progress, workers=workers)
        chosen = [sides(text, Path(folder)) for text in (a, b)]
        wanted = {
            (side, name): Cell(
                name,
                peer,
                tuple(protocol.lanes(name, peer, oracles).items()),
                seeds,
                code,
            )
            for side, (peer, code) in enumerate(chosen)
            for name in names
        }
        todo = list(dict.fromkeys(wanted.values()))
        done = {r.cell: r for r, _ in progress(cells.run(todo, workers=workers), todo)}
    for cell, result in done.items():
        if result.error is not None:
            raise RuntimeError(f"{cell.peer} failed on {cell.workload}: {result.error}")
    finals = [
        np.stack([_finals(done[wanted[side, name]]) for name in names])
        for side in (0, 1)
    ]  # [W, L, S] each
    ratios = finals[0] / finals[1]
    head = ["workload", *LABELS]
    rows = [
        [
            name,
            *(scoring.geometric_mean(ratios[i : i + 1, k]) for k in range(len(LABELS))),
        ]
        for i, name in enumerate(names)
    ]
    every = [
        "**all**",
        *(scoring.geometric_mean(ratios[:, k]) for k in range(len(LABELS))),
    ]
    lines = [
        f"Final metric of `{a}` over that of `{b}`; below 1 the first is better. "
        f"{len(seeds)} seeds, 95 % bootstrap intervals.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *(
            "| " + " | ".join(map(str, map(_cell, row))) + " |"
            for row in [every, *rows]
        ),
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3f}"


def _finals(result: Result) -> np.ndarray:
    """[L, S] cleaned final metrics at `LABELS`."""
    workload = workloads.get(result.cell.workload)
    start = float(np.median(result.curves["last"][..., 0]))
    labels = [label for label, _ in result.cell.rates]
    return np.stack(
        [
            scoring.cleaned(
                result.curves["own"][labels.index(label), :, -1], workload.floor, start
            )
            for label in LABELS
            if label in labels
        ]
    )
