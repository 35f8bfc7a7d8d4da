"""Each part of the law taken out once, and a range of trusts in the base rate.

A part is out where its numbers do nothing. Only development draws are run.
"""

import math

from benchmarks import families, laws, markdown, protocol, scoring
from benchmarks.laws import Change, Finals
from benchmarks.scoring import Place

WHOLE = "nothing"
PARTS: dict[str, Change] = {
    "the warm-up": {"warmup_steps": 1},
    "the audit's failures": {"audit.max_failures": 0},
    "its patience beyond the warm-up": {"audit.steps": 20},
    "its test for opposition": {"audit.opposed": math.inf},
    "skipping": {"skip.noises": math.inf},
    "the trial": {"trial.patience": 2**24, "trial.start_patience": 2**24},
    "the steep early climb": {"search.early_rate": 0.06},
    "the climb's proof": {"search.reach": math.inf},
    "search": {"search.rate": 1e-9, "search.early_rate": 1e-9},
    "nudge": {"nudge.rate": 1e-9},
    "settle": {"settle.power": 0},
    "the average's window": {"average.shrink": 0},
}
TRUSTS: dict[str, Change] = {
    f"{trust:g}": {"trust": trust} for trust in (1.5, 3.0, 4.0, 8.0, 12.0, math.inf)
}
HEAD = (*protocol.FACTORS, "default", "x0.3 to x3", "all rates")


def table(
    problems: tuple[str, ...],
    *,
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> str:
    """Run every law and write both tables as Markdown."""
    changes = {WHOLE: {}} | PARTS | TRUSTS
    found: dict[str, Finals] = {}
    for name, results in laws.run(
        problems, list(changes.values()), seeds=seeds, workers=workers
    ):
        found[name] = results
        print(f"{len(found)}/{len(problems)} {name}", flush=True)
    places = {
        name: Place(families.get(name).trade, families.get(name).family, name)
        for name in problems
    }

    def over_whole(index: int) -> tuple[str, ...]:
        """A law over the whole one: above 1 the part earns its place."""
        logs = {
            label: scoring.log_ratios(
                *({places[n]: found[n][i][label] for n in problems} for i in (index, 0))
            )
            for label in (*protocol.FACTORS, "default")
        }
        pools = [
            [logs[label] for label in few] for few in (protocol.NEAR, protocol.FACTORS)
        ]
        means = [scoring.mean(one) for one in logs.values()]
        ends = [scoring.mean(scoring.pooled(pool)) for pool in pools]
        return (*(f"{m.value:.3f}" for m in means), *(f"{m:.3f}" for m in ends))

    rows = {name: over_whole(i) for i, name in enumerate(changes)}
    return "\n\n".join(
        [
            f"{len(problems)} development draws, {protocol.INSTANCES} instances, "
            f"{len(seeds)} seeds; geometric means of the final metric over that of the "
            f"whole law, ratios clipped to [{1 / scoring.CLIP:g}, {scoring.CLIP:g}], "
            "trades weigh alike; 95 % intervals. Above 1 the part earns its place.",
            "## Without one part",
            markdown.table(("without", *HEAD), [(p, *rows[p]) for p in PARTS]),
            "## The trust in the base rate",
            markdown.table(("trust", *HEAD), [(t, *rows[t]) for t in TRUSTS]),
        ]
    )
