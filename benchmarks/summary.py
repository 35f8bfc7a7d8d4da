"""From cells to one small table that a report is written from, on any machine."""

import datetime
import json
import math
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import hashes, peers, protocol, scoring, workloads
from benchmarks.cells import Result

RESULTS = Path(__file__).parent / "results"
TRACED = ("x0.01", "x1", "x100")  # rates whose control traces are kept
TRACE_POINTS = 200
PER_DISTURBANCE = 1.5  # recovered: within this of the level before the disturbance


def summarise(
    suite: protocol.Suite, results: Iterable[Result], oracles: dict[str, Any]
) -> dict[str, Any]:
    """Final metrics, times to target, recoveries and traces of every run."""
    by_workload: dict[str, dict[str, Result]] = {name: {} for name in suite.workloads}
    for result in results:
        by_workload[result.cell.workload][result.cell.peer] = result
    table: dict[str, Any] = {
        "suite": suite.name,
        "command": f"python -m benchmarks run --suite {suite.name}",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "law": hashes.law_hash(),
        "versions": versions(),
        "seeds": list(suite.seeds),
        "seconds": 0.0,
        "workloads": {},
        "peers": {
            name: {
                "free": peer.free,
                "knows_horizon": peer.knows_horizon,
                "own_optimizer": peer.own_optimizer,
                "ours": peer.ours,
                "source": peer.source,
            }
            for name in suite.peers
            for peer in [peers.get(name)]
        },
        "runs": {},
        "traces": {},
    }
    for name, of_peer in by_workload.items():
        facts = _facts(name, of_peer, oracles[name])
        table["workloads"][name] = facts
        table["runs"][name] = {
            peer: _runs(result, facts) for peer, result in of_peer.items()
        }
        if "nudge" in of_peer and of_peer["nudge"].error is None:
            table["traces"][name] = _traces(of_peer["nudge"])
        table["seconds"] += sum(r.seconds + r.compile_seconds for r in of_peer.values())
    return table


def _facts(name: str, of_peer: dict[str, Result], oracle: dict) -> dict[str, Any]:
    """What every run on this workload is measured against."""
    workload = workloads.get(name)
    cosine, constant = of_peer["cosine"], of_peer["constant"]
    for result in (cosine, constant):
        if result.error is not None:
            raise RuntimeError(f"{name}: {result.cell.peer} failed: {result.error}")
    start = float(np.median(constant.curves["last"][..., 0]))
    final = scoring.cleaned(cosine.curve("last", "x1")[:, -1], workload.floor, start)
    reference = float(np.median(final))
    facts = {
        "split": workload.split,
        "optimizer": workload.optimizer,
        "horizon": workload.horizon,
        "batch_size": workload.batch_size,
        "metric": workload.metric_name,
        "floor": workload.floor,
        "start": start,
        "oracle": reference,
        "target": reference * (start / reference) ** workload.target_slack,
        "base_rate": oracle["cosine"]["rate"],
        "disturbed_at": workload.disturbed_at,
    }
    if workload.disturbed_at is not None:
        steps = protocol.steps_of(name)
        before = (steps <= workload.disturbed_at) & (steps > workload.disturbed_at / 2)
        calm = np.median(constant.curve("last", "tuned")[:, before])
        facts["recovered"] = PER_DISTURBANCE * max(float(calm), workload.floor)
    return facts


def _runs(result: Result, facts: dict[str, Any]) -> dict[str, Any]:
    """One peer on one workload, by kind of evaluated parameters and by rate."""
    if result.error is not None:
        return {"error": result.error}
    steps = protocol.steps_of(result.cell.workload)
    row: dict[str, Any] = {"error": None, "final": {}, "time": {}, "diverged": {}}
    if facts["disturbed_at"] is not None:
        row["recovery"] = {}
    for kind, curves in result.curves.items():
        for (label, _), curve in zip(result.cell.rates, curves, strict=True):
            final = scoring.cleaned(curve[:, -1], facts["floor"], facts["start"])
            # A metric below the floor is at the floor, for the target as well.
            floored = np.maximum(curve, facts["floor"])
            time = scoring.time_to_target(floored, steps, facts["target"])
            lost = scoring.diverged(curve[:, -1], facts["start"])
            row["final"].setdefault(kind, {})[label] = _plain(final)
            row["time"].setdefault(kind, {})[label] = _plain(time)
            row["diverged"].setdefault(kind, {})[label] = int(lost.sum())
            if "recovery" in row:
                recovery = scoring.steps_to_recover(
                    floored, steps, facts["disturbed_at"], facts["recovered"]
                )
                row["recovery"].setdefault(kind, {})[label] = _plain(recovery)
    return row


def _traces(result: Result) -> dict[str, dict[str, list]]:
    """The gains of the first seed, thinned."""
    horizon = workloads.get(result.cell.workload).horizon
    kept = np.unique(np.linspace(0, horizon - 1, TRACE_POINTS).round().astype(int))
    labels = [label for label, _ in result.cell.rates]
    return {
        label: {"step": kept.tolist()}
        | {
            name: _plain(trace[labels.index(label)][kept])
            for name, trace in result.traces.items()
        }
        for label in TRACED
    }


def _plain(values: np.ndarray) -> list[float | None]:
    """Five digits, and None for what is not finite: JSON has no infinity."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]


def array(values: list) -> np.ndarray:
    """The inverse of `_plain`; None is infinite."""
    return np.array([math.inf if v is None else v for v in values], np.float64)


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    import jax
    import optax

    return {
        "jax": jax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
    }


def commit() -> str:
    """Of the checkout, marked where the working tree differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=hashes.ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def save(table: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``SUITE.json``."""
    path = folder / f"{table['suite']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    return path


def load(suite: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Read ``SUITE.json``."""
    path = folder / f"{suite}.json"
    if not path.exists():
        raise ValueError(
            f"{path} is not there; run python -m benchmarks run --suite {suite}."
        )
    return json.loads(path.read_text())
