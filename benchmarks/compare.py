"""Two configurations of ours side by side, with intervals.

A side is a peer's name (``nudge``), options of `adaptive_scheduler`
(``mode=search,slew=0.1``; ``mode=nudge`` is the default law), or either with ``@REV``:
the package as it was at that commit.
"""

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import cells, hashes, markdown, peers, protocol, scoring
from benchmarks.cells import Cell
from benchmarks.progress import progress

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
        cwd=hashes.ROOT,
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
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> str:
    """Run what is missing and write the comparison as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        oracles = protocol.compute_oracles(names, workers=workers)
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
    finals = [
        np.stack(
            [protocol.finals(done[wanted[side, name]], "own", LABELS) for name in names]
        )
        for side in (0, 1)
    ]  # [W, L, S] each
    ratios = finals[0] / finals[1]
    groups = {"**all**": ratios}
    groups |= {name: ratios[i : i + 1] for i, name in enumerate(names)}
    rows = [
        (name, *(f"{scoring.geometric_mean(r):.3f}" for r in some.swapaxes(0, 1)))
        for name, some in groups.items()
    ]
    lines = [
        f"Final metric of `{a}` over that of `{b}`; below 1 the first is better. "
        f"{len(seeds)} seeds, 95 % bootstrap intervals.",
        "",
        markdown.table(("workload", *LABELS), rows),
    ]
    return "\n".join(lines)
