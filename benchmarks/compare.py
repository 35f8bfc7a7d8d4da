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

from benchmarks import (
    cells,
    families,
    hashes,
    markdown,
    oracles,
    peers,
    protocol,
    scoring,
)
from benchmarks.cells import Cell, Result
from benchmarks.progress import progress
from benchmarks.scoring import Place

LABELS = (*protocol.FACTORS, "default")


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
    problems: tuple[str, ...],
    *,
    seeds: tuple[int, ...] = protocol.SEEDS,
    other_seeds: bool = False,
    workers: int | None = None,
) -> str:
    """Run what is missing and write the comparison as Markdown.

    A draw on which one side raises is left out and named.

    Args:
      a: A side.
      b: Another.
      problems: Draws.
      seeds: Of both sides.
      other_seeds: Give the second side seeds of its own: what differs between two
        names of one law is then noise.
      workers: Processes, one a core by default.
    """
    shifted = tuple(seed + len(seeds) for seed in seeds) if other_seeds else seeds
    with tempfile.TemporaryDirectory() as folder:
        tuned = oracles.compute(problems, workers=workers)
        chosen = [sides(text, Path(folder)) for text in (a, b)]
        wanted = {
            (side, name): Cell(
                name,
                peer,
                protocol.lanes(name, peer, tuned),
                (seeds, shifted)[side],
                code,
            )
            for side, (peer, code) in enumerate(chosen)
            for name in problems
        }
        todo = list(dict.fromkeys(wanted.values()))
        done = {r.cell: r for r, _ in progress(cells.run(todo, workers=workers), todo)}
    errors = {
        name: error
        for name in problems
        for side in (0, 1)
        if (error := done[wanted[side, name]].error) is not None
    }
    compared = [name for name in problems if name not in errors]
    if not compared:
        raise RuntimeError(f"no draw on which both ran: {_told(errors)}.")
    logs = {
        label: scoring.log_ratios(
            *(
                {
                    place(name): finals(done[wanted[side, name]], label)
                    for name in compared
                }
                for side in (0, 1)
            )
        )
        for label in LABELS
    }
    near = scoring.pooled([logs[label] for label in protocol.NEAR])
    every = scoring.pooled([logs[label] for label in protocol.FACTORS])
    columns = {**logs, "x0.3 to x3": near, "all rates": every}
    rows = [("**all**", *(f"{scoring.mean(c):.3f}" for c in columns.values()))]
    of_family = [scoring.by_family(column) for column in columns.values()]
    rows += [
        (family, *(f"{found[family].value:.3f}" for found in of_family))
        for family in of_family[0]
    ]
    lines = [
        f"Final metric of `{a}` over that of `{b}`; below 1 the first is better. "
        f"{len(compared)} draws, {len(seeds)} seeds"
        f"{', others for the second' if other_seeds else ''}, 95 % intervals.",
        "",
        markdown.table(("family", *columns), rows),
    ]
    if errors:
        lines += ["", f"Left out, because one side raised there: {_told(errors)}."]
    return "\n".join(lines)


def _told(errors: dict[str, str]) -> str:
    return "; ".join(f"{name} ({text:.90})" for name, text in errors.items())


def place(name: str) -> Place:
    """Where a draw weighs."""
    drawn = families.get(name)
    return Place(drawn.trade, drawn.family, name)


def finals(result: Result, label: str, kind: str = "own"):
    """f64[instances, seeds]: cleaned final metrics of a peer that must not fail."""
    if result.error is not None:
        raise RuntimeError(
            f"{result.cell.peer} failed on {result.cell.problem}: {result.error}"
        )
    floor = families.get(result.cell.problem).problem.floor
    start = result.curves["last"][0, ..., 0]
    return scoring.cleaned(result.finals(kind, label), floor, start)
