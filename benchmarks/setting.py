"""The report's second half: what failed, and every family, draw and peer."""

from typing import Any

import numpy as np

from benchmarks import markdown, scoring, standings


def folded(title: str, text: str) -> str:
    """Text that a reader opens."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def failures(table: dict[str, Any]) -> str:
    """Who raised what."""
    raised = [
        (peer, name, run["error"])
        for name, of_peer in table["runs"].items()
        for peer, run in of_peer.items()
        if run["error"] is not None
    ]
    return (
        "## Diverged and failed\n\nA run has diverged where it ends above the metric "
        "that it began with, or not at a number; it counts with the metric that it "
        "began with. "
        + (
            "A peer that raised counts so too.\n\n"
            + markdown.table(("peer", "draw", "raised"), raised)
            if raised
            else "No peer raised an error."
        )
    )


def every_family(table: dict[str, Any]) -> str:
    """Ratios at x1: the raw material of every mean above."""
    rows = []
    over = standings.best_tuned(table)
    of_entry = {
        entry: scoring.by_family(standings.ratio(table, entry, ["x1"], lambda _: over))
        for entry in standings.entries(table)
    }
    names = list(dict.fromkeys(f["family"] for f in table["problems"].values()))
    for entry, found in of_entry.items():
        rows.append(
            (
                standings.titled(table, entry),
                *(f"{found[name].value:.2f}" for name in names),
            )
        )
    return "## Every family\n\n" + folded(
        "Final metric over the best tuned schedule's, at x1",
        markdown.table(("peer", *names), rows),
    )


def problems(table: dict[str, Any]) -> str:
    """Every draw, fact by fact."""
    rows = []
    for name, facts in table["problems"].items():
        shape = ", ".join(f"{k} {v}" for k, v in facts["shape"].items())
        best = standings.best_tuned(table)[standings.places(table)[name]]
        rows.append(
            (
                name,
                facts["trade"],
                facts["optimizer"],
                shape,
                facts["metric"],
                " ".join(f"{rate:.2g}" for rate in facts["rates"]["cosine"]),
                " ".join(facts["best"]),
                f"{np.mean(np.array(facts['start'], float)):.3g}",
                f"{best.mean():.3g}",
                f"{facts['floor']:.1g}",
            )
        )
    head = ("draw", "trade", "optimizer", "shape", "metric", "base rates",
            "best schedules", "start", "best tuned", "floor")  # fmt: skip
    return "## The setting\n\n" + folded("Draws", markdown.table(head, rows))


def peers(table: dict[str, Any]) -> str:
    """Every peer, and where it comes from."""

    def mark(yes: bool) -> str:
        return "yes" if yes else ""

    marks = ("free", "knows_horizon", "own_optimizer")
    rows = [
        (f"`{name}`", *(mark(peer[key]) for key in marks), peer["source"])
        for name, peer in table["peers"].items()
    ]
    return folded(
        "Peers",
        markdown.table(
            ("peer", "rate-free", "knows the horizon", "own optimizer", "source"), rows
        ),
    )
