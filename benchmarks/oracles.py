"""The references: three schedules at their best rate, for every instance of a draw.

The best rate is the one with the lowest mean log of the final metric over
`TUNING_SEEDS`, which no score reads. The grid has three rates a decade over four
decades around the optimizer's default, and grows by a decade where the best one lies
at its edge. What is found is remembered by draw: for the development draws in
``oracles.json`` here, for the others in the cache.
"""

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cells, families, hashes, scoring
from benchmarks.cells import Cell
from benchmarks.peers.inner import OPTIMIZERS
from benchmarks.progress import progress
from benchmarks.protocol import INSTANCES, REFERENCES

TUNING_SEEDS = (1000, 1001)
COMMAND = "python -m benchmarks oracles"
STORED = Path(__file__).parent / "oracles.json"
FIRST = (-6, 6)  # thirds of a decade around the optimizer's default
LIMIT = 15  # beyond which no grid grows


def path_of(name: str) -> Path:
    """Where the oracle of a draw is remembered."""
    _, seed, _ = families.parsed(name)
    if seed == families.DEVELOPMENT:
        return STORED
    return cells.CACHE / f"oracles-{seed}.json"


def load(names: Iterable[str]) -> dict[str, Any]:
    """The remembered oracles that are still true of today's problems."""
    found = {}
    for name in names:
        path = path_of(name)
        stored = json.loads(path.read_text())["problems"] if path.exists() else {}
        if name in stored and stored[name]["problem"] == _hash(name):
            found[name] = stored[name]
    return found


def _hash(name: str) -> str:
    drawn = families.get(name)
    return hashes.digest(
        [
            hashes.problem_hash(drawn.family),
            sorted(drawn.shape.items()),
            drawn.optimizer,
        ]
    )


def compute(names: Iterable[str], **options: Any) -> dict[str, Any]:
    """Tune the three schedules on every draw that has no remembered oracle."""
    names = tuple(names)
    oracles = load(names)
    missing = [name for name in names if name not in oracles]
    spans = {(name, peer): FIRST for name in missing for peer in REFERENCES}
    curves: dict[tuple[str, str], dict[float, np.ndarray]] = {one: {} for one in spans}
    pieces = [(one, *FIRST) for one in spans]
    while pieces:
        wanted = {
            Cell(*one, _grid(one[0], low, high), TUNING_SEEDS): one
            for one, low, high in pieces
        }
        for result, _ in progress(cells.run(list(wanted), **options), list(wanted)):
            curves[wanted[result.cell]].update(_finals(result))
        pieces = [
            (one, low, high)
            for one in dict.fromkeys(one for one, *_ in pieces)
            for low, high in _further(curves[one], *spans[one])
        ]
        for one, low, high in pieces:
            spans[one] = min(low, spans[one][0]), max(high, spans[one][1])
    for name in missing:
        oracles[name] = {
            "problem": _hash(name),
            "instances": [
                {peer: _best(curves[name, peer], i) for peer in REFERENCES}
                for i in range(INSTANCES)
            ],
        }
    _save({name: oracles[name] for name in missing})
    return oracles


def _grid(name: str, low: int, high: int) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Three rates a decade around the optimizer's default, the same for all."""
    centre = OPTIMIZERS[families.get(name).optimizer].default_rate
    return tuple(
        (f"{k / 3:+.2f}", (centre * 10 ** (k / 3),) * INSTANCES)
        for k in range(low, high + 1)
    )


def _finals(result: cells.Result) -> dict[float, np.ndarray]:
    """Rate -> f64[instances], the mean log of the final metric."""
    if result.error is not None:
        raise RuntimeError(
            f"the oracle {result.cell.peer} failed on {result.cell.problem}: "
            f"{result.error}"
        )
    floor = families.get(result.cell.problem).problem.floor
    found = {}
    for label, (rate, *_) in result.cell.rates:
        start = result.curves["last"][0, ..., 0]
        final = result.finals(REFERENCES[result.cell.peer], label)
        found[rate] = np.log(scoring.cleaned(final, floor, start)).mean(axis=1)
    return found


def _best(curve: dict[float, np.ndarray], instance: int) -> dict[str, Any]:
    rate = min(sorted(curve), key=lambda rate: curve[rate][instance])
    return {
        "rate": float(f"{rate:.6g}"),
        "metric": float(f"{np.exp(curve[rate][instance]):.6g}"),
        "grid": [
            [float(f"{r:.4g}"), float(f"{np.exp(curve[r][instance]):.4g}")]
            for r in sorted(curve)
        ],
    }


def _further(
    curve: dict[float, np.ndarray], low: int, high: int
) -> list[tuple[int, int]]:
    """A decade more at each end at which an instance has its best rate."""
    table = np.stack([curve[rate] for rate in sorted(curve)])
    at = table.argmin(axis=0)
    flat = table.max(axis=0) == table.min(axis=0)  # no rate does anything
    more = []
    if ((at == 0) & ~flat).any() and low > -LIMIT:
        more.append((low - 3, low - 1))
    if ((at == len(table) - 1) & ~flat).any() and high < LIMIT:
        more.append((high + 1, high + 3))
    return more


def _save(oracles: dict[str, Any]) -> None:
    """Add oracles to the files of their draws."""
    for path in sorted({path_of(name) for name in oracles}):
        stored = json.loads(path.read_text()) if path.exists() else {"problems": {}}
        stored["problems"] |= {n: o for n, o in oracles.items() if path_of(n) == path}
        stored = {
            "command": COMMAND,
            "date": datetime.date.today().isoformat(),
            "seeds": TUNING_SEEDS,
            "problems": dict(sorted(stored["problems"].items())),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stored) + "\n")
