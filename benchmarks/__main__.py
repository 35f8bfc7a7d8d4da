"""The judge's command line.

    python -m benchmarks run --suite quick      development draws, ten minutes
    python -m benchmarks run --suite full       fresh draws and all peers, 100 minutes
    python -m benchmarks report --suite full    REPORT.md and its figures
    python -m benchmarks report --readme        the README's table
    python -m benchmarks compare A B            two configurations of ours
    python -m benchmarks oracles                tune the schedules that we measure by
    python -m benchmarks ablate                 each part of the law taken out once
    python -m benchmarks apart                  two larger runs on data of yours
    python -m benchmarks cost                   step time, state bytes, compile time
    python -m benchmarks copies                 what a smaller copy costs in loss
    python -m benchmarks scale                  the tables of docs/scale.md
    python -m benchmarks resume                 runs that are cut and go on
    python -m benchmarks freezing               what frozen parameters save
    python -m benchmarks faults                 training under what goes wrong
    python -m benchmarks gains                  what momentum and dither earn and cost
    python -m benchmarks mechanisms             their pictures in docs/figures
    python -m benchmarks stream                 do shifting weights beat every rule?
    python -m benchmarks online                 learners on streams, batch by batch
    python -m benchmarks picture                the README's first picture
    python -m benchmarks replay                 gains of 32 runs, before and after

A run that is interrupted goes on where it was; so does one after a change, with only
the cells that the change touches.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmarks import (
    ablation,
    cells,
    families,
    hashes,
    held_out,
    peers,
    protocol,
    summary,
)
from benchmarks import compare as comparing
from benchmarks import oracles as tuning
from benchmarks import report as reporting
from benchmarks.apart import apart
from benchmarks.copies import copies
from benchmarks.cost import cost
from benchmarks.faults.command import faults
from benchmarks.freezing.report import freezing
from benchmarks.gains.command import gains
from benchmarks.gains.figures import mechanisms
from benchmarks.online.command import online
from benchmarks.picture import picture
from benchmarks.progress import progress
from benchmarks.replay import replay
from benchmarks.resume import resume
from benchmarks.scale import scale
from benchmarks.stream import stream

app = tyro.extras.SubcommandApp()


@app.command
def run(
    *,
    suite: Literal["quick", "full"] = "quick",
    draw_seed: int | None = None,
    family: tuple[str, ...] = (),
    peer: tuple[str, ...] = (),
    workers: int | None = None,
) -> None:
    """Run a suite's missing cells, and write its summary and report.

    Args:
      suite: ``quick`` trains the development draws, ``full`` draws that no run has
        scored.
      draw_seed: Of a full run's draws; a fresh one by default, or that of a full run
        which was interrupted. It is written into ``held_out.md``, and refused there
        after.
      family: Only these; no report is written then, and only development draws run.
      peer: Only these; likewise.
      workers: Processes, one a core by default.
    """
    protocol.known(family, families.NAMES, "family")
    protocol.known(peer, tuple(peers.PEERS), "peer")
    if suite == "quick" and draw_seed is not None:
        raise ValueError("--draw-seed is for --suite full; quick's draws are fixed.")
    partial = bool(family or peer)
    if partial and suite == "full":
        raise ValueError("a full run is scored whole; leave --family and --peer out.")
    if suite == "full":
        chosen = protocol.full(held_out.begin(draw_seed))
        print(f"draw seed {chosen.draw_seed}")
    else:
        chosen = protocol.quick()
        chosen = chosen._replace(
            names=family or chosen.names, peers=peer or chosen.peers
        )
    tuned = tuning.compute(chosen.problems, workers=workers)
    wanted = protocol.suite_cells(chosen, tuned)
    done = [r for r, _ in progress(cells.run(wanted, workers=workers), wanted)]
    if partial:
        return
    table = summary.summarise(chosen, done, tuned)
    print(f"wrote {summary.save(table, _folder(suite))}")
    if suite == "full":
        held_out.record(table)
    report(suite=suite)


@app.command
def report(*, suite: Literal["quick", "full"] = "full", readme: bool = False) -> None:
    """Write the report of the last run of a suite.

    Args:
      suite: Which.
      readme: Print the README's table, and write nothing.
    """
    table = summary.load(suite, _folder(suite))
    if readme:
        print(reporting.readme(table))
    else:
        print(f"wrote {reporting.write(table, _folder(suite))}")


def _folder(suite: str) -> Path:
    """``results`` holds the full suite's, and the quick one's a folder below."""
    return summary.RESULTS if suite == "full" else summary.RESULTS / "development"


@app.command
def ablate(*, family: tuple[str, ...] = (), workers: int | None = None) -> None:
    """Take each part of the law out once, and walk along the trust in the base rate.

    Args:
      family: Only these; the table is printed and not written then.
      workers: Processes, one a core by default.
    """
    text = ablation.table(_development(family), workers=workers)
    print(text)
    if not family:
        head = (
            "# What each part of the law earns\n\n`python -m benchmarks ablate`, "
            f"law `{hashes.law_hash()}`.\n\n"
        )
        (summary.RESULTS / "ablation.md").write_text(f"{head}{text}\n")


def _development(family: tuple[str, ...], draws: int = 1) -> tuple[str, ...]:
    """Development draws, of some families or of all."""
    protocol.known(family, families.NAMES, "family")
    return families.draws(families.DEVELOPMENT, draws, family or families.NAMES)


@app.command
def compare(
    a: Annotated[str, tyro.conf.Positional],
    b: Annotated[str, tyro.conf.Positional],
    *,
    family: tuple[str, ...] = (),
    draws: int = 1,
    seeds: int = len(protocol.SEEDS),
    other_seeds: bool = False,
    held_out_draws: bool = False,
    workers: int | None = None,
) -> None:
    """Set two configurations of ours side by side, on development draws.

    Args:
      a: ``nudge``, ``mode=search,slew=0.1``, or either with ``@REV`` for the package as
        it was at a commit.
      b: The same.
      family: Only these.
      draws: How many of each family.
      seeds: How many.
      other_seeds: Give the second side seeds of its own. Two names of one law must
        then tie.
      held_out_draws: On draws that no run has used. They are used up then, and the
        table is added to ``results/compared.md``.
      workers: Processes, one a core by default.
    """
    if held_out_draws and family:
        raise ValueError("held-out draws are scored whole; leave --family out.")
    draw_seed, problems = None, _development(family, draws)
    if held_out_draws:
        draw_seed = held_out.fresh()
        problems = families.draws(draw_seed, draws, families.NAMES)
    text = comparing.compare(
        a,
        b,
        problems,
        seeds=tuple(range(seeds)),
        other_seeds=other_seeds,
        workers=workers,
    )
    print(text)
    if draw_seed is not None:
        held_out.note(draw_seed, text)


@app.command
def oracles(
    *, family: tuple[str, ...] = (), draws: int = 1, workers: int | None = None
) -> None:
    """Tune the reference schedules of every development draw that has none stored.

    Args:
      family: Only these.
      draws: How many of each family.
      workers: Processes, one a core by default.
    """
    for name, oracle in tuning.compute(
        _development(family, draws), workers=workers
    ).items():
        for i, instance in enumerate(oracle["instances"]):
            print(
                f"{name} instance {i}",
                *(f"{p} {instance[p]['rate']:.3g}" for p in protocol.REFERENCES),
                sep="  ",
            )


app.command(apart)
app.command(replay)
app.command(copies)
app.command(cost)
app.command(freezing)
app.command(faults)
app.command(gains)
app.command(mechanisms)
app.command(online)
app.command(scale)
app.command(resume)
app.command(stream)
app.command(picture)


def main() -> None:
    """Run a subcommand; a mistake in its arguments is one line."""
    try:
        app.cli(prog="python -m benchmarks", description=__doc__)
    except (FileNotFoundError, ValueError, KeyboardInterrupt) as error:
        sys.exit(f"benchmarks: {error or 'interrupted; the same command goes on'}")


if __name__ == "__main__":
    main()
