"""Which cells are run: the suites, the labelled rates, and the oracles.

Every rate has a label, and every figure says which labels it reads:

- ``x0.01 ... x100``: the base rate times that. The base rate of a workload is the one
  at which cosine with warm-up does best (`oracles`). For a learning-rate-free peer the
  number multiplies its own default instead.
- ``default``: the one published default rate of the optimizer, chosen without a look at
  the workload: this is self-tuning.
- ``x1000``, ``x10000``: survival, for our own and the constant rate.
- ``tuned``: the peer's own best rate of the oracles' grid.
"""

import datetime
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cells, hashes, peers, scoring, workloads
from benchmarks.cells import Cell
from benchmarks.contract import EVALUATIONS
from benchmarks.peers.inner import OPTIMIZERS
from benchmarks.progress import progress

SEEDS = (0, 1, 2, 3, 4)
TUNING_SEEDS = (1000, 1001, 1002, 1003, 1004)  # the oracles': no rate chosen twice
MISSPECIFIED = ("x0.01", "x0.1", "x1", "x10", "x100")
TRIALS = ("x0.1", "x0.316", "x1", "x3.16", "x10")  # external tuning: five for everyone
SURVIVAL = ("x1000", "x10000")
FACTORS = {
    "x0.01": 0.01,
    "x0.1": 0.1,
    "x0.316": 10**-0.5,
    "x1": 1.0,
    "x3.16": 10**0.5,
    "x10": 10.0,
    "x100": 100.0,
    "x1000": 1e3,
    "x10000": 1e4,
}
ORACLES = Path(__file__).parent / "oracles.json"
ORACLE_PEERS = ("cosine", "warmup_stable_decay", "constant")
ORACLE_COMMAND = "python -m benchmarks oracles"
QUICK_PEERS = (
    "constant",
    "cosine",
    "reduce_on_plateau",
    "prodigy",
    "schedule_free",
    "nadamw",
    "nudge",
    "search",
)


class Suite(NamedTuple):
    """What a report is made of."""

    name: str
    workloads: tuple[str, ...]
    peers: tuple[str, ...]
    seeds: tuple[int, ...] = SEEDS


def suite(name: str) -> Suite:
    """`quick`, on which a law may be developed, or `full`, which judges it."""
    development = tuple(n for n, s in workloads.SPLIT.items() if s == "development")
    suites = {
        "quick": Suite("quick", development, QUICK_PEERS),
        "full": Suite("full", tuple(workloads.NAMES), tuple(peers.PEERS)),
    }
    if name not in suites:
        raise ValueError(f"unknown suite {name!r}; known: {', '.join(suites)}.")
    return suites[name]


def lanes(workload: str, peer: str, oracles: dict[str, Any]) -> dict[str, float]:
    """The labelled rates at which a peer trains a workload."""
    this = peers.get(peer)
    if this.free:
        return {label: FACTORS[label] for label in TRIALS}
    base = oracles[workload]["cosine"]["rate"]
    labels = [*FACTORS] if this.ours or peer == "constant" else [*FACTORS][:-2]
    rates = {label: base * FACTORS[label] for label in labels}
    inner = OPTIMIZERS[workloads.get(workload).optimizer]
    rates["default"] = inner.default_rate
    if peer in ORACLE_PEERS:
        rates["tuned"] = oracles[workload][peer]["rate"]
    return rates


def suite_cells(chosen: Suite, oracles: dict[str, Any], code: str = "") -> list[Cell]:
    """Every cell of a suite, the workloads with the longest horizons first."""
    order = sorted(chosen.workloads, key=lambda name: -workloads.get(name).horizon)
    return [
        Cell(
            workload,
            peer,
            tuple(lanes(workload, peer, oracles).items()),
            chosen.seeds,
            code,
        )
        for workload in order
        for peer in chosen.peers
    ]


def finals(result: cells.Result, kind: str, labels: Iterable[str]) -> np.ndarray:
    """f64[labels, seeds]: cleaned final metrics of a peer that must not fail."""
    peer, name = result.cell.peer, result.cell.workload
    if result.error is not None:
        raise RuntimeError(f"{peer} failed on {name}: {result.error}")
    floor = workloads.get(name).floor
    start = float(np.median(result.curves["last"][..., 0]))
    last = [result.curve(kind, label)[:, -1] for label in labels]
    return np.stack([scoring.cleaned(metrics, floor, start) for metrics in last])


def steps_of(workload: str) -> np.ndarray:
    """The steps of the evaluations, 0 first."""
    horizon = workloads.get(workload).horizon
    return np.linspace(0, horizon, EVALUATIONS + 1).round().astype(int)


def grid(centre: float, low: int, high: int) -> dict[str, float]:
    """Three rates a decade around ``centre``, from step ``low`` to step ``high``."""
    return {f"{k / 3:+.2f}": centre * 10 ** (k / 3) for k in range(low, high + 1)}


def load_oracles(path: Path = ORACLES) -> dict[str, Any]:
    """The stored oracles that are still true of today's workloads."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())["workloads"]
    return {
        name: oracle
        for name, oracle in stored.items()
        if workloads.own_name(name) in workloads.NAMES
        and oracle["problem"] == hashes.problem_hash(name)
    }


def compute_oracles(
    names: Iterable[str], *, path: Path = ORACLES, **options: Any
) -> dict[str, Any]:
    """Tune cosine, warm-up-stable-decay and the constant rate where none is stored.

    The best rate is the one with the lowest median final metric of the last iterate
    over `TUNING_SEEDS`. The grid has 13 rates over four decades around the optimizer's
    default, and grows by a decade where the best one lies at its edge.
    """
    oracles = load_oracles(path)
    missing = [name for name in names if name not in oracles]
    open_grids = {(name, peer): (-6, 6) for name in missing for peer in ORACLE_PEERS}
    curves: dict[tuple[str, str], dict[float, float]] = {}
    for _ in range(4):
        wanted = {
            Cell(name, peer, tuple(_grid(name, *ends).items()), TUNING_SEEDS): (
                name,
                peer,
            )
            for (name, peer), ends in open_grids.items()
        }
        for result, _ in progress(cells.run(list(wanted), **options), list(wanted)):
            medians = curves.setdefault(wanted[result.cell], {})
            medians |= _medians(result)
        open_grids = _extended(open_grids, curves)
        if not open_grids:
            break
    for name in missing:
        oracles[name] = {"problem": hashes.problem_hash(name)} | {
            peer: _best(curves[name, peer]) for peer in ORACLE_PEERS
        }
    if missing:
        stored = {
            "command": ORACLE_COMMAND,
            "date": datetime.date.today().isoformat(),
            "seeds": TUNING_SEEDS,
            "workloads": dict(sorted(oracles.items())),
        }
        path.write_text(json.dumps(stored, indent=1) + "\n")
    return oracles


def _grid(name: str, low: int, high: int) -> dict[str, float]:
    inner = OPTIMIZERS[workloads.get(name).optimizer]
    return grid(inner.default_rate, low, high)


def _medians(result: cells.Result) -> dict[float, float]:
    """Rate -> median final metric."""
    if result.error is not None:
        raise RuntimeError(
            f"the oracle {result.cell.peer} failed on {result.cell.workload}: "
            f"{result.error}"
        )
    workload = workloads.get(result.cell.workload)
    cap = float(np.median(result.curves["last"][..., 0]))
    finals = scoring.cleaned(result.curves["last"][..., -1], workload.floor, cap)
    rates = [rate for _, rate in result.cell.rates]
    return dict(zip(rates, np.median(finals, axis=1).tolist(), strict=True))


def _best(curve: dict[float, float]) -> dict[str, Any]:
    rate = min(sorted(curve), key=curve.__getitem__)
    return {
        "rate": rate,
        "metric": curve[rate],
        "grid": [[float(f"{r:.6g}"), float(f"{curve[r]:.6g}")] for r in sorted(curve)],
    }


def _extended(
    grids: dict[tuple[str, str], tuple[int, int]],
    curves: dict[tuple[str, str], dict[float, float]],
) -> dict[tuple[str, str], tuple[int, int]]:
    """One decade more for each grid whose best rate lies at its edge."""
    more = {}
    for one, (low, high) in grids.items():
        rates = sorted(curves[one])
        at = rates.index(_best(curves[one])["rate"])
        if at == 0 and low < 0:
            more[one] = (low - 3, low - 1)
        elif at == len(rates) - 1 and high > 0:
            more[one] = (high + 1, high + 3)
    return more


def known(names: Sequence[str], among: Sequence[str], what: str) -> None:
    """Refuse a name that is not there, listing those that are."""
    for name in names:
        if name not in among:
            raise ValueError(f"unknown {what} {name!r}; known: {', '.join(among)}.")
