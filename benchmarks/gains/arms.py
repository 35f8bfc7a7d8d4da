"""What is held against what: a mechanism's arms, and the runs without it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import adaptive_optax as ao
from benchmarks.gains import prior
from benchmarks.gains.train import Arm
from benchmarks.gains.unseen import UNSEEN
from benchmarks.gains.work import LONGER_MEMORY, MINIBATCHES, SADDLES, Work

WITHOUT, PLAIN = "without", "constant rate"
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
    arms: dict[str, Arm]
    works: dict[str, Callable[[], Work]]
    optimizer: str
    momenta: tuple[float, ...]
    bases: tuple[str, ...] = (WITHOUT,)  # arms that the others are held over


def _only(arms: dict[str, Options], *names: str) -> dict[str, Options]:
    return {name: arms[name] for name in (WITHOUT, *names)}


USUAL = (0.9,)
WITH_PRIOR_ART: dict[str, Callable[[], Work]] = {
    **{k: v for k, v in LONGER_MEMORY.items() if k != "matrix factorization"},
    **UNSEEN,
    "classes, batches of 16": MINIBATCHES["classes, batches of 16"],
}
STUDIES = (
    Study("Momentum of SGD", MOMENTUM, LONGER_MEMORY, "sgd", MOMENTA),
    Study(
        "Momentum of SGD in minibatches",
        _only(MOMENTUM, "auto"),
        MINIBATCHES,
        "sgd",
        MOMENTA,
    ),
    Study("Dither of SGD", DITHER, SADDLES, "sgd", USUAL),
    Study(
        "Momentum of Adam",
        _only(MOMENTUM, "auto", "restarts alone"),
        LONGER_MEMORY,
        "adam",
        MOMENTA,
    ),
    Study(
        "Momentum of Adam in minibatches",
        _only(MOMENTUM, "auto"),
        MINIBATCHES,
        "adam",
        MOMENTA,
    ),
    Study(
        "Dither of SGD in minibatches",
        _only(DITHER, "auto"),
        MINIBATCHES,
        "sgd",
        USUAL,
    ),
    Study("Dither of Adam", _only(DITHER, "auto"), SADDLES, "adam", USUAL),
    Study(
        "Prior art of SGD's momentum",
        {
            **_only(MOMENTUM, "auto"),
            PLAIN: prior.CONSTANT_SGD,
            **prior.YELLOWFIN,
        },
        WITH_PRIOR_ART,
        "sgd",
        USUAL,
        (WITHOUT, "auto", PLAIN),
    ),
    Study(
        "Prior art of Adam's momentum",
        {
            **_only(MOMENTUM, "auto"),
            **prior.LOOPED,
            PLAIN: prior.CONSTANT_ADAM,
            **prior.ADEMAMIX,
            "b1 to .99": prior.Alone(prior.adam_warmed),
        },
        WITH_PRIOR_ART,
        "adam",
        USUAL,
        (WITHOUT, "auto", PLAIN),
    ),
)
