"""``python -m benchmarks faults``."""

import sys
import time
from pathlib import Path

from benchmarks import hashes, protocol
from benchmarks.faults import listed, outcome, pool, table

RESULTS = Path(__file__).parent.parent / "results"


def faults(
    *,
    task: tuple[str, ...] = (),
    optimizer: tuple[str, ...] = (),
    fault: tuple[str, ...] = (),
    seeds: int = 5,
    workers: int | None = None,
) -> None:
    """Train under what goes wrong in practice: fault by arm, outcome and steps lost.

    Args:
      task: Only these, ``digits`` or ``mnist``; the table is printed and not written.
      optimizer: Only these, ``adam`` or ``sgd``; likewise.
      fault: Only those whose names contain one of these; likewise.
      seeds: How many.
      workers: Processes, one a core by default.
    """
    from benchmarks.faults.arms import ARMS
    from benchmarks.faults.tasks import RATES, TASKS
    from benchmarks.faults.training import EVERY, HORIZON

    optimizers = tuple(dict.fromkeys(name for _, name in RATES))
    protocol.known(task, tuple(TASKS), "task")
    protocol.known(optimizer, optimizers, "optimizer")
    if seeds < 1:
        raise ValueError(f"`seeds` must be at least 1, got {seeds}; try --seeds 5.")
    names = listed.named(fault)
    wanted = pool.programs(
        task or tuple(TASKS),
        optimizer or optimizers,
        tuple(ARMS),
        tuple(names),
        range(seeds),
    )
    results = _reported(wanted, workers)
    found = outcome.outcomes(((program, results[program]) for program in wanted), EVERY)
    found = _in_order(found, tuple(names), tuple(ARMS))
    title = (
        "# What goes wrong in practice\n\n`python -m benchmarks faults`, law "
        f"`{hashes.law_hash()}`: {len(names) - 1} faults, {HORIZON} steps, "
        f"{seeds} seeds."
    )
    page = table.text(found, title)
    if task or optimizer or fault:
        print(page)
        return
    print("\n".join(table.headlines(found)))
    head = {
        "command": "python -m benchmarks faults",
        "law": hashes.law_hash(),
        "horizon": HORIZON,
        "seeds": seeds,
        "rates": {" ".join(name): rate for name, rate in RATES.items()},
    }
    for name, content in (("md", page), ("json", table.dumped(head, found))):
        path = RESULTS / f"faults.{name}"
        path.write_text(content)
        print(f"wrote {path}")


def _reported(wanted: list[pool.Program], workers: int | None) -> dict:
    """Run, and say a line for each program that ran just now."""
    results, start = {}, time.monotonic()
    for program, found, seconds in pool.run(wanted, workers=workers):
        results[program] = found
        if seconds is not None:
            done = f"{len(results)}/{len(wanted)}"
            print(f"{done} {program}: {seconds:.0f} s", file=sys.stderr, flush=True)
    minutes = (time.monotonic() - start) / 60
    print(f"{len(wanted)} programs, {minutes:.1f} min", file=sys.stderr)
    return results


def _in_order(
    found: outcome.Table, faults: tuple[str, ...], arms: tuple[str, ...]
) -> outcome.Table:
    """Sort by task and optimizer, then as the faults and arms are listed."""
    return dict(
        sorted(
            found.items(),
            key=lambda item: (
                item[0].task,
                item[0].optimizer,
                faults.index(item[0].fault),
                arms.index(item[0].arm),
            ),
        )
    )
