"""The report's second half: what single runs did, what failed, and the setting."""

import json
import math
from pathlib import Path

import numpy as np

from benchmarks import cost as costs
from benchmarks import markdown, protocol, standings


def recovery(table: dict) -> str:
    """How long everyone takes to come back, where something disturbs."""
    over = standings.disturbed(table)
    if not over:
        return ""
    rows = []
    for entry in standings.entries(table):
        cells = [standings.titled(table, entry)]
        for name in over:
            run = table["runs"][name][entry.peer]
            if run["error"] is not None:
                cells.append("raised")
                continue
            steps = standings.values(table, "recovery", entry, "x1", [name])[0]
            middle = float(np.median(steps))
            back = int(np.isfinite(steps).sum())
            cells.append(
                f"{middle:g} ({back}/{len(steps)})" if math.isfinite(middle)
                else f"never ({back}/{len(steps)})"
            )  # fmt: skip
        rows.append(cells)
    facts = [
        f"{name} ({standings.said(table['workloads'][name]['split'])})" for name in over
    ]
    return (
        "## After a shift or a spike\n\nSteps from the disturbance until the metric is "
        "back, for good, within 1.5 times what the best constant rate had before it; "
        "base rate x1, median, and how many seeds came back. Everybody else's step is "
        "skipped where a gradient is not finite (`optax.apply_if_finite`).\n\n"
        + markdown.table(("peer", *facts), rows)
    )


def traces(drawn: dict[str, Path]) -> str:
    """The picture of our gains."""
    return (
        "## What the controller did\n\n"
        f"![control traces](figures/{drawn['traces'].name})"
    )


def cost(path: Path) -> str:
    """The table of a cost.json, if there is one."""
    if not path.exists():
        return ""
    return "## What it costs\n\n`python -m benchmarks cost`\n\n" + costs.table(
        json.loads(path.read_text())
    )


def per_workload(table: dict) -> str:
    """Final ratios at the base rate: the raw material of every mean above."""
    over = standings.names(table)
    rows = []
    for entry in standings.entries(table):
        finals = standings.values(table, "final", entry, "x1", over)
        ratios = np.median(finals, axis=1) / standings.oracle(table, over)[:, 0]
        cells = (f"{ratio:.2f}" for ratio in ratios)
        rows.append((standings.titled(table, entry), *cells))
    return (
        "## Every workload\n\n<details><summary>Median final metric over the oracle's, "
        "base rate x1</summary>\n\n"
        + markdown.table(("peer", *over), rows)
        + "\n\n</details>"
    )


def failures(table: dict) -> str:
    """Who diverged how often, and who raised what."""
    raised = [
        (peer, name, run["error"])
        for name, of_peer in table["runs"].items()
        for peer, run in of_peer.items()
        if run["error"] is not None
    ]
    over = standings.names(table)
    labels = ("default", *protocol.MISSPECIFIED)
    rows = [
        (
            standings.titled(table, entry),
            *(standings.count(table, "diverged", entry, x, over) for x in labels),
        )
        for entry in standings.entries(table)
    ]
    rows = [row for row in rows if any(row[1:])]
    total = len(over) * len(table["seeds"])
    return (
        f"## Diverged and failed\n\nRuns, of {total}, that ended above the metric they "
        "began with or not at a number; they count with the metric they began with.\n\n"
        + markdown.table(("peer", *labels), rows)
        + "\n\n"
        + (
            markdown.table(("peer", "workload", "raised"), raised)
            if raised
            else "No peer raised an error."
        )
    )


def setting(table: dict) -> str:
    """The workloads and the peers, fact by fact."""
    rows = [
        (
            name,
            standings.said(facts["split"]),
            facts["optimizer"],
            facts["horizon"],
            facts["batch_size"] or "all",
            facts["metric"],
            *(f"{facts[k]:.3g}" for k in ("base_rate", "start", "oracle", "target")),
            f"{facts['floor']:.1g}",
        )
        for name, facts in table["workloads"].items()
    ]
    head = ("workload", "split", "optimizer", "steps", "batch", "metric", "base rate",
            "start", "oracle", "target", "floor")  # fmt: skip

    def mark(yes: bool) -> str:
        return "yes" if yes else ""

    marks = ("free", "knows_horizon", "own_optimizer")
    peers = [
        (f"`{name}`", *(mark(peer[key]) for key in marks), peer["source"])
        for name, peer in table["peers"].items()
    ]
    return (
        "## The setting\n\n"
        "Time is counted in steps: what a step costs is measured by itself, since on "
        "models this small the scalar work of any controller outweighs the model. "
        "Self-tuning here has the same horizon as tuning, not AlgoPerf's threefold. "
        "A metric is clipped to [floor, start]. The base rates come from "
        f"`{protocol.ORACLE_COMMAND}`: three rates a decade, bracketed, on seeds of "
        "their own.\n\n"
        + markdown.table(head, rows)
        + "\n\n<details><summary>Peers</summary>\n\n"
        + markdown.table(
            ("peer", "rate-free", "knows the horizon", "own optimizer", "source"), peers
        )
        + "\n\n</details>"
    )
