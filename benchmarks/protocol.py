"""Which cells are run: the suites and the labelled rates.

Every rate has a label, and every figure says which labels it reads:

- ``x0.01 ... x100``: the base rate times that. The base rate of an instance is the one
  at which cosine with warm-up does best (`oracles`). A learning-rate-free peer has only
  ``x1``, its own default.
- ``default``: the one published default rate of the optimizer, chosen without a look at
  the problem.
- ``tuned``: the best rate of the two other schedules that references are made of.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks import families, peers
from benchmarks.cells import Cell
from benchmarks.peers.inner import OPTIMIZERS

SEEDS = (0,)  # another instance tells more than another seed of the same one
INSTANCES = 4
DRAWS = 3  # of each family in a full run: one of each resolves no more than 8 % at x1
FACTORS = {
    "x0.01": 0.01,
    "x0.1": 0.1,
    "x0.3": 10**-0.5,
    "x1": 1.0,
    "x3": 10**0.5,
    "x10": 10.0,
    "x100": 100.0,
}
NEAR = ("x0.3", "x1", "x3")  # where most users are
# A schedule and the parameters of it that are evaluated.
REFERENCES = {
    "cosine": "last",
    "warmup_stable_decay": "last",
    "constant": "average",
}
QUICK_PEERS = ("constant", "cosine", "warmup_stable_decay", "nudge")


class Suite(NamedTuple):
    """What a report is made of."""

    name: str
    draw_seed: int
    draws: int  # of each family
    peers: tuple[str, ...]
    names: tuple[str, ...] = families.NAMES
    instances: int = INSTANCES
    seeds: tuple[int, ...] = SEEDS

    @property
    def problems(self) -> tuple[str, ...]:
        return families.draws(self.draw_seed, self.draws, self.names)


def quick() -> Suite:
    """One development draw of each family: a law may be tuned on it."""
    return Suite("quick", families.DEVELOPMENT, 1, QUICK_PEERS, instances=2)


def full(draw_seed: int) -> Suite:
    """Draws that nobody has seen, and everybody."""
    return Suite("full", draw_seed, DRAWS, tuple(peers.PEERS))


def lanes(
    problem: str, peer: str, oracles: dict[str, Any], instances: int = INSTANCES
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """The labelled rates at which a peer trains a problem, one for each instance."""
    this, oracle = peers.get(peer), oracles[problem]["instances"][:instances]
    if this.free:
        return (("x1", (1.0,) * len(oracle)),)
    bases = [instance["cosine"]["rate"] for instance in oracle]
    rates = {
        label: tuple(factor * base for base in bases)
        for label, factor in FACTORS.items()
    }
    inner = OPTIMIZERS[families.get(problem).optimizer]
    rates["default"] = (inner.default_rate,) * len(oracle)
    if peer in REFERENCES and peer != "cosine":
        rates["tuned"] = tuple(instance[peer]["rate"] for instance in oracle)
    return tuple(rates.items())


def suite_cells(suite: Suite, oracles: dict[str, Any], code: str = "") -> list[Cell]:
    """Every cell of a suite, the longest horizons first."""
    order = sorted(suite.problems, key=lambda name: -families.get(name).problem.horizon)
    return [
        Cell(
            name,
            peer,
            lanes(name, peer, oracles, suite.instances),
            suite.seeds,
            code,
        )
        for name in order
        for peer in suite.peers
    ]


def known(names: Sequence[str], among: Sequence[str], what: str) -> None:
    """Refuse a name that is not there, listing those that are."""
    for name in names:
        if name not in among:
            raise ValueError(f"unknown {what} {name!r}; known: {', '.join(among)}.")
