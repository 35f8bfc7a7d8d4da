"""What `compare` has found: a Markdown table, and the loops of the first seed."""

from pathlib import Path
from typing import Any

import numpy as np

import adaptive_optax as ao


def report(
    output: Path,
    results: dict[str, Any],
    methods: dict[str, tuple[str, float]],
    seeds: int,
) -> None:
    """Table and plot of finished runs.

    Args:
      output: Folder of ``table.md`` and ``comparison.png``, of cosine and searches.
      results: Of `compare`, by method and seed.
      methods: Name to kind and base rate; "constant" and "tuned cosine" among them.
      seeds: How many there are of each.
    """
    runs = {
        name: [results[f"{name}, seed {seed}"] for seed in range(seeds)]
        for name in methods
    }
    oracle = np.mean([run["loss"] for run in runs["tuned cosine"]])
    plain = np.median([run["cpu"] for run in runs["constant"]])
    rows = [
        "| rate | base | test loss | perplexity | over cosine | wall | CPU | frozen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, group in runs.items():
        losses = np.array([run["loss"] for run in group])
        frozen = np.mean([run["told"].get("frozen_fraction", 0.0) for run in group])
        wall, cpu = (np.median([run[t] for run in group]) for t in ("seconds", "cpu"))
        rows.append(
            f"| {name} | {methods[name][1]:.0e} | {losses.mean():.4f} ± "
            f"{losses.std(ddof=1) if len(losses) > 1 else 0.0:.4f} | "
            f"{np.exp(losses.mean()):.3f} | {losses.mean() / oracle - 1:+.1%} | "
            f"{wall:.0f} s | {cpu / plain:.2f} | {frozen:.0%} |"
        )
    table = "\n".join(rows)
    (output / "table.md").write_text(f"{table}\n", "utf-8")
    print(f"before fine-tuning: test loss {results['untouched']:.4f}\n\n{table}")
    drawn = {
        name.rpartition(", ")[2]: {
            key: np.array(group[0]["told"][key])
            for key in ("loss", "learning_rate")
            if key in group[0]["told"]
        }
        for name, group in runs.items()
        if "nudge" not in name and name != "constant"
    }
    ao.plot_history(drawn, path=output / "comparison.png")
