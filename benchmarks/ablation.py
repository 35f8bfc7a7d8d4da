"""Each part of the law taken out once, and a range of trusts in the base rate.

A part is taken out of the `Law`, and all else stays as it is. Only development
workloads are run, some of them also under optimizers that are not their own.
"""

from typing import Any

import numpy as np

from benchmarks import cells, markdown, protocol
from benchmarks.cells import Cell
from benchmarks.progress import progress

PAIRS = (
    "quadratic",
    "logistic/lion",
    "digits_mlp",
    "digits_mlp@80/rmsprop",
    "factorization@120/adam",
    "shift/adagrad",
    "bandit@80",
    "sine",
)
PARTS = {
    "the warm-up of the audit": "law__audit__warmup_steps=1",
    "the audit": "law__audit=None",
    "its patience beyond the warm-up": "law__audit__steps=20",
    "its cut after a late pass": "law__audit__passed_late=0.0",
    "its test for dead gradients": "law__audit__dead=0.0",
    "its test for steps that carry on": (
        "law__audit__overshot=inf, law__audit__agreed=inf"
    ),
    "its ear for agreement that ends": "law__audit__agreed=inf",
    "the second try of its rate": "law__retry=None",
    "the guard": "law__guard=None",
    "the guard's acquittal": "law__guard__data_changed=inf",
    "its early climb": "law__search__early=inf, law__search__early_rate=0.06",
    "the heading": (
        "law__search__ahead=inf, law__nudge__headed=0.0, law__settle__drawn_back=-inf"
    ),
    "the climb's waiting": "law__search__receded=inf",
    "search": "law__search=None",
    "nudge": "law__nudge=None",
    "settle": "law__settle=None",
    "the average's window": "law__average__shrink=0.0",
}
TRUSTS = {
    "1.5": "ours(mode=1.5)",
    "3, search": "search",
    "6, nudge": "nudge",
    "12": "ours(mode=12)",
    "inf, safe": "safe",
}
LABELS = ("x0.01", "x0.1", "x1", "x3.16", "x10", "x100", "x1000", "x10000", "default")


def table(
    names: tuple[str, ...] = PAIRS,
    *,
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> str:
    """Run what is missing and write both tables as Markdown."""
    oracles = protocol.compute_oracles(names, workers=workers)
    variants = {"nothing": "nudge"}
    variants |= {part: f"ours({text})" for part, text in PARTS.items()}
    variants |= TRUSTS
    wanted = {
        (variant, name): Cell(
            name, peer, tuple(protocol.lanes(name, peer, oracles).items()), seeds, ""
        )
        for variant, peer in variants.items()
        for name in names
    }
    todo = list(dict.fromkeys(wanted.values()))
    done = {r.cell: r for r, _ in progress(cells.run(todo, workers=workers), todo)}

    def ratios(variant: str, kind: str = "own") -> np.ndarray:
        return np.stack(
            [
                protocol.finals(done[wanted[variant, name]], kind, LABELS)
                / oracles[name]["cosine"]["metric"]
                for name in names
            ]
        )  # [W, L, S]

    parts = {part: ratios(part) for part in ("nothing", *PARTS)}
    parts["the average of the parameters"] = ratios("nothing", "last")
    curve = {trust: ratios(trust) for trust in TRUSTS}
    return "\n\n".join(
        [
            f"{len(names)} development pairs of workload and optimizer: "
            f"{', '.join(names)}. {len(seeds)} seeds; geometric means of the final "
            "metric over the oracle's, ratios clipped to [0.1, 10] so that no one "
            "workload rules.",
            "## Without one part",
            _markdown("without", parts),
            "## The trust in the base rate",
            _markdown("trust", curve),
        ]
    )


def _markdown(what: str, rows: dict[str, Any]) -> str:
    def means(ratio: np.ndarray) -> np.ndarray:
        return np.exp(np.clip(np.log(ratio), -np.log(10), np.log(10)).mean((0, 2)))

    return markdown.table(
        (what, *LABELS),
        ((name, *(f"{m:.2f}" for m in means(x))) for name, x in rows.items()),
    )
