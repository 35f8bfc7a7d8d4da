"""What is held against what: a mechanism's arms, and the runs without it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import adaptive_optax as ao
from benchmarks.gains.work import LONGER_MEMORY, MINIBATCHES, SADDLES, Work

WITHOUT = "without"
Options = dict[str, Any]

MOMENTA = (0.0, 0.9, 0.99)

MOMENTUM: dict[str, Options] = {
    WITHOUT: {},
    "auto": {"momentum_rule": "auto"},
    "restarts alone": {"momentum_rule": ao.rules.momentum(agreement=1.0)},
    "alignment": {"momentum_rule": ao.rules.alignment()},
}
DITHER: dict[str, Options] = {
    WITHOUT: {},
    "auto": {"sigma_rule": "auto"},
    "sigma 1e-2, success": {"sigma": 1e-2},
}
DEVELOPMENT = {
    "momentum_rule": "ours(momentum_rule='auto')",
    "sigma_rule": "ours(sigma_rule='auto')",
    "both": "ours(momentum_rule='auto', sigma_rule='auto')",
}
"""Peers of the benchmark, each held against ``nudge``."""


class Study(NamedTuple):
    """A table: works down, arms across."""

    title: str
    arms: dict[str, Options]
    works: dict[str, Callable[[], Work]]
    optimizer: str
    momenta: tuple[float, ...]


def _study(what: str, arms: dict[str, Options], works: Any, momenta: Any):
    return [
        Study(f"{what}, {optimizer}", arms, works, optimizer, momenta)
        for optimizer in ("sgd", "adam")
    ]


STUDIES = (
    *_study("Momentum, where it should help", MOMENTUM, LONGER_MEMORY, MOMENTA),
    *_study("Momentum in minibatches", MOMENTUM, MINIBATCHES, MOMENTA),
    *_study("Dither, where it should help", DITHER, SADDLES, (0.9,)),
    *_study("Dither in minibatches", DITHER, MINIBATCHES, (0.9,)),
)
