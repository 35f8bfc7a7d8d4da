"""Each part of the law taken out once, and a range of trusts in the base rate.

A part is taken out of the `Law`, and all else stays as it is. Only development
draws are run.
"""

from typing import Any

from benchmarks import cells, markdown, oracles, protocol, scoring
from benchmarks.cells import Cell
from benchmarks.compare import finals, place
from benchmarks.progress import progress

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
    "skipping": "law__skip=None",
    "the trial": "law__trial=None",
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
LABELS = (*protocol.FACTORS, "default")
HEAD = (*LABELS, "x0.3 to x3", "all rates")


def table(
    problems: tuple[str, ...],
    *,
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> str:
    """Run what is missing and write both tables as Markdown."""
    tuned = oracles.compute(problems, workers=workers)
    variants = {"nothing": "nudge"}
    variants |= {part: f"ours({text})" for part, text in PARTS.items()}
    variants |= TRUSTS
    wanted = {
        (variant, name): Cell(name, peer, protocol.lanes(name, peer, tuned), seeds)
        for variant, peer in variants.items()
        for name in problems
    }
    todo = list(dict.fromkeys(wanted.values()))
    done = {r.cell: r for r, _ in progress(cells.run(todo, workers=workers), todo)}

    def over_all(variant: str, kind: str = "own") -> tuple[str, ...]:
        """Without the part over with it: above 1 the part earns its place."""
        logs = {
            label: scoring.log_ratios(
                *(
                    {place(n): finals(done[wanted[v, n]], label, k) for n in problems}
                    for v, k in ((variant, kind), ("nothing", "own"))
                )
            )
            for label in LABELS
        }
        near = scoring.pooled([logs[label] for label in protocol.NEAR])
        every = scoring.pooled([logs[label] for label in protocol.FACTORS])
        means = [scoring.mean(logs[label]) for label in LABELS]
        return (
            *(f"{found.value:.3f}" for found in means),
            f"{scoring.mean(near):.3f}",
            f"{scoring.mean(every):.3f}",
        )

    parts: dict[str, Any] = {part: over_all(part) for part in PARTS}
    parts["the average of the parameters"] = over_all("nothing", "last")
    curve = {trust: over_all(trust) for trust in TRUSTS}
    return "\n\n".join(
        [
            f"{len(problems)} development draws, {protocol.INSTANCES} instances, "
            f"{len(seeds)} seeds; geometric means of the final metric over that of the "
            f"whole law, ratios clipped to [{1 / scoring.CLIP:g}, {scoring.CLIP:g}], "
            "trades weigh alike; 95 % intervals. Above 1 the part earns its place.",
            "## Without one part",
            markdown.table(
                ("without", *HEAD), [(name, *row) for name, row in parts.items()]
            ),
            "## The trust in the base rate",
            markdown.table(
                ("trust", *HEAD), [(name, *row) for name, row in curve.items()]
            ),
        ]
    )
