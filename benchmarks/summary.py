"""From cells to one small table that a report is written from, on any machine."""

import datetime
import json
import math
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import families, hashes, peers, protocol, scoring
from benchmarks.cells import CURVES, Result

RESULTS = Path(__file__).parent / "results"


def summarise(
    suite: protocol.Suite,
    results: Iterable[Result],
    oracles: dict[str, Any],
) -> dict[str, Any]:
    """Final metrics of every run, and what they are measured against."""
    by_problem: dict[str, dict[str, Result]] = {name: {} for name in suite.problems}
    for result in results:
        by_problem[result.cell.problem][result.cell.peer] = result
    table: dict[str, Any] = {
        "suite": suite.name,
        "draw_seed": suite.draw_seed,
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "law": hashes.law_hash(),
        "versions": versions(),
        "seeds": list(suite.seeds),
        "core_seconds": round(
            sum(
                r.seconds + r.compile_seconds
                for of_peer in by_problem.values()
                for r in of_peer.values()
            )
        ),
        "peers": {name: _about(name) for name in suite.peers},
        "problems": {},
        "runs": {},
    }
    for name, of_peer in by_problem.items():
        facts = _facts(name, of_peer, oracles[name]["instances"][: suite.instances])
        table["problems"][name] = facts
        table["runs"][name] = {
            peer: _runs(result, facts) for peer, result in of_peer.items()
        }
    return table


def _about(name: str) -> dict[str, Any]:
    peer = peers.get(name)
    return {
        "free": peer.free,
        "knows_horizon": peer.knows_horizon,
        "own_optimizer": peer.own_optimizer,
        "ours": peer.ours,
        "source": peer.source,
    }


def _facts(
    name: str, of_peer: dict[str, Result], oracle: list[dict[str, Any]]
) -> dict[str, Any]:
    """What every run on this draw is measured against."""
    drawn = families.get(name)
    constant = of_peer["constant"]
    if constant.error is not None:
        raise RuntimeError(f"{name}: the constant rate failed: {constant.error}")
    best = [
        min(protocol.REFERENCES, key=lambda peer: instance[peer]["metric"])
        for instance in oracle
    ]
    return {
        "family": drawn.family,
        "trade": drawn.trade,
        "optimizer": drawn.optimizer,
        "shape": drawn.shape,
        "horizon": drawn.problem.horizon,
        "metric": drawn.problem.metric_name,
        "floor": drawn.problem.floor,
        # [instances, seeds]
        "start": _plain(constant.curves["last"][0, ..., 0]),
        "rates": {
            peer: [instance[peer]["rate"] for instance in oracle]
            for peer in protocol.REFERENCES
        },
        # On the tuning seeds; the reference is this schedule's run on ours.
        "best": best,
    }


def _runs(result: Result, facts: dict[str, Any]) -> dict[str, Any]:
    """One peer on one draw: kind of parameters -> label -> [instances, seeds]."""
    if result.error is not None:
        return {"error": result.error}
    start = array(facts["start"])
    row: dict[str, Any] = {"error": None, "final": {}, "diverged": {}}
    for kind in CURVES:
        for label, _ in result.cell.rates:
            final = result.finals(kind, label)
            cleaned = scoring.cleaned(final, facts["floor"], start)
            row["final"].setdefault(kind, {})[label] = _plain(cleaned)
            row["diverged"].setdefault(kind, {})[label] = int((~(final <= start)).sum())
    return row


def _plain(values: np.ndarray) -> list[Any]:
    """Five digits, and None for what is not finite: JSON has no infinity."""
    if np.ndim(values):
        return [_plain(v) for v in values]
    return float(f"{values:.5g}") if math.isfinite(values) else None  # type: ignore[return-value]


def array(values: list[Any]) -> np.ndarray:
    """The inverse of `_plain`; None is infinite."""
    plain = np.array(values, dtype=object)
    return np.where(plain == None, math.inf, plain).astype(np.float64)  # noqa: E711


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
