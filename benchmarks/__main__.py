"""The judge's command line.

    python -m benchmarks run --suite quick      development workloads, minutes
    python -m benchmarks run --suite full       everything, under two hours on 2 cores
    python -m benchmarks report --suite full    REPORT.md and its figures
    python -m benchmarks compare A B            two configurations of ours
    python -m benchmarks oracles                tune the schedules that we measure by
    python -m benchmarks ablate                 each part of the law taken out once
    python -m benchmarks apart                  two larger runs on data of yours
    python -m benchmarks cost                   step time, state bytes, compile time
    python -m benchmarks freezing               what frozen parameters save
    python -m benchmarks replay                 gains of 32 runs, before and after

A run that is interrupted goes on where it was; so does one after a change, with only
the cells that the change touches.
"""

import sys
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks import (
    ablation,
    cells,
    hashes,
    held_out,
    peers,
    protocol,
    standings,
    summary,
    workloads,
)
from benchmarks import apart as aparts
from benchmarks import compare as comparing
from benchmarks import cost as costing
from benchmarks import replay as replaying
from benchmarks import report as reporting
from benchmarks.freezing.report import freezing
from benchmarks.progress import progress

app = tyro.extras.SubcommandApp()


@app.command
def run(
    *,
    suite: str = "quick",
    workload: tuple[str, ...] = (),
    peer: tuple[str, ...] = (),
    workers: int | None = None,
) -> None:
    """Run a suite's missing cells, and write its summary and report.

    Args:
      suite: ``quick`` or ``full``.
      workload: Only these; no report is written then.
      peer: Only these; no report is written then.
      workers: Processes, one a core by default.
    """
    chosen = protocol.suite(suite)
    protocol.known(workload, workloads.NAMES, "workload")
    protocol.known(peer, tuple(peers.PEERS), "peer")
    partial = bool(workload or peer)
    chosen = chosen._replace(
        workloads=workload or chosen.workloads, peers=peer or chosen.peers
    )
    oracles = protocol.compute_oracles(chosen.workloads, workers=workers)
    wanted = protocol.suite_cells(chosen, oracles)
    done = list(progress(cells.run(wanted, workers=workers), wanted))
    if partial:
        return
    table = summary.summarise(chosen, (result for result, _ in done), oracles)
    print(f"wrote {summary.save(table, _folder(suite))}")
    if standings.names(table, "held_out") and any(fresh for _, fresh in done):
        held_out.log(table)
    report(suite=suite)


@app.command
def report(*, suite: str = "full") -> None:
    """Write the report of the last run of a suite.

    Args:
      suite: ``quick`` or ``full``; that of ``quick`` is not kept in the repository.
    """
    protocol.suite(suite)
    folder = _folder(suite)
    print(f"wrote {reporting.write(summary.load(suite, folder), folder)}")


def _folder(suite: str) -> Path:
    """Only the full suite's results are kept in the repository."""
    return summary.RESULTS if suite == "full" else cells.CACHE / suite


@app.command
def ablate(*, workload: tuple[str, ...] = (), workers: int | None = None) -> None:
    """Take each part of the law out once, and walk along the trust in the base rate.

    Args:
      workload: Only these; the table is printed and not written then.
      workers: Processes, one a core by default.
    """
    text = ablation.table(workload or ablation.PAIRS, workers=workers)
    print(text)
    if not workload:
        head = (
            "# What each part of the law earns\n\n`python -m benchmarks ablate`, "
            f"law `{hashes.law_hash()}`.\n\n"
        )
        (summary.RESULTS / "ablation.md").write_text(f"{head}{text}\n")


@app.command
def apart(*, mnist: Path | None = None, text: Path | None = None) -> None:
    """The law's claims on two larger runs that are no part of a suite.

    Args:
      mnist: Folder with the four gzipped idx files of MNIST.
      text: Tiny Shakespeare, or any other text.
    """
    found = [
        make(path)
        for make, path in ((aparts.mnist, mnist), (aparts.shakespeare, text))
        if path is not None
    ]
    if not found:
        raise ValueError("no data; give --mnist FOLDER, --text FILE or both.")
    lines = []
    for workload in found:
        for line in aparts.table(workload):
            print(line, flush=True)
            lines.append(line)
        lines.append("")
    if len(found) == 2:
        head = (
            "# Apart from the suite\n\n`python -m benchmarks apart --mnist FOLDER "
            f"--text FILE`, law `{hashes.law_hash()}`.\n\n"
        )
        (summary.RESULTS / "apart.md").write_text(head + "\n".join(lines))


@app.command
def compare(
    a: Annotated[str, tyro.conf.Positional],
    b: Annotated[str, tyro.conf.Positional],
    *,
    workload: tuple[str, ...] = (),
    seeds: int = len(protocol.SEEDS),
    workers: int | None = None,
) -> None:
    """Set two configurations of ours side by side, on development workloads.

    Args:
      a: ``nudge``, ``mode=search,slew=0.1``, or either with ``@REV`` for the package as
        it was at a commit.
      b: The same.
      workload: Only these.
      seeds: How many.
      workers: Processes, one a core by default.
    """
    development = protocol.suite("quick").workloads
    held = [name for name in workload if name not in development]
    protocol.known(workload, workloads.NAMES, "workload")
    if held:
        raise ValueError(
            f"{', '.join(held)}: held out, scored by the full report alone; compare on "
            f"{', '.join(development)}."
        )
    print(
        comparing.compare(
            a,
            b,
            workload or development,
            seeds=tuple(range(seeds)),
            workers=workers,
        )
    )


@app.command
def oracles(*, workers: int | None = None) -> None:
    """Tune the schedules of every workload that has no stored oracle.

    Args:
      workers: Processes, one a core by default.
    """
    found = protocol.compute_oracles(workloads.NAMES, workers=workers)
    for name, oracle in found.items():
        print(
            name,
            *(f"{peer} {oracle[peer]['rate']:.3g}" for peer in protocol.ORACLE_PEERS),
            sep="  ",
        )


@app.command
def replay(
    *,
    write: Path | None = None,
    against: Path | None = None,
    run: tuple[str, ...] = (),
) -> None:
    """Record the gains of 32 runs, or set them beside a recording.

    Args:
      write: File to record into, an ``.npz``.
      against: File to compare with.
      run: Only these, by their names in `benchmarks.replay`.
    """
    if (write is None) == (against is None):
        raise ValueError("give --write FILE or --against FILE, one of them.")
    protocol.known(run, tuple(replaying.RUNS), "run")
    lines = replaying.write(write, run) if write else replaying.against(against, run)
    for line in lines:
        print(line, flush=True)


app.command(freezing)


def main() -> None:
    """Run a subcommand; a mistake in its arguments is one line."""
    if sys.argv[1:2] == ["cost"]:
        costing.main(sys.argv[2:])
        return
    try:
        app.cli(prog="python -m benchmarks", description=__doc__)
    except (ValueError, KeyboardInterrupt) as error:
        sys.exit(f"benchmarks: {error or 'interrupted; the same command goes on'}")


if __name__ == "__main__":
    main()
