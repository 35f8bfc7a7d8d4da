"""What is trained: families of problems, and the draws that pick from them.

A problem's name says how it was drawn: ``conv@0.1`` is draw 1 of the family ``conv``
under the draw seed 0. Draw seed 0 is the development list, on which a law may be
tuned; every other seed is held out.
"""

import difflib
import functools
import importlib
import zlib
from typing import NamedTuple

import numpy as np

from benchmarks.contract import EVALUATIONS, Family, Problem, Shape

NAMES = (
    "quadratic",
    "factorization",
    "teacher",
    "tabular",
    "waves",
    "digits",
    "logistic",
    "label_noise",
    "conv",
    "mixer",
    "recurrent",
    "transformer",
    "finetune",
    "autoencoder",
    "vae",
    "embeddings",
    "contrastive",
    "density",
    "physics",
    "cartpole",
    "bandit",
    "drift",
    "shift",
    "accumulated",
)
"""A file each. They are grouped into trades by `Family.trade`."""

USE = {
    "adamw": 0.3,
    "adam": 0.2,
    "sgd": 0.2,
    "lion": 0.08,
    "muon": 0.08,
    "adafactor": 0.05,
    "rmsprop": 0.05,
    "adagrad": 0.04,
}
"""Share of the draws that each inner optimizer gets: AdamW and Adam are half of it."""

DEVELOPMENT = 0  # the draw seed on which a law may be tuned


class Drawn(NamedTuple):
    """One draw: a problem, where it came from, and who takes its steps."""

    name: str
    family: str
    trade: str
    shape: Shape
    optimizer: str  # a key of `peers.inner.OPTIMIZERS`
    problem: Problem


@functools.cache
def family(name: str) -> Family:
    """The family called ``name``.

    Raises:
      ValueError: If there is none.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"no family is called {name!r}.{hint} Known: {', '.join(NAMES)}."
        )
    return importlib.import_module(f"benchmarks.families.{name}").FAMILY


def draws(seed: int, count: int, names: tuple[str, ...] = NAMES) -> tuple[str, ...]:
    """The names of ``count`` draws of each family."""
    return tuple(f"{name}@{seed}.{i}" for name in names for i in range(count))


@functools.cache
def get(name: str) -> Drawn:
    """The draw of that name, built (and its data loaded) at the first call.

    Raises:
      ValueError: If the name is not ``family@seed.index`` of a known family.
      RuntimeError: If the horizon of what was built cannot be evaluated.
    """
    own, seed, index = parsed(name)
    this = family(own)
    rng = np.random.default_rng([seed, index, zlib.crc32(own.encode())])
    shape = {
        what: among[rng.integers(len(among))] for what, among in this.shapes.items()
    }
    problem = this.build(shape)
    if problem.horizon % (EVALUATIONS * problem.accumulate):
        raise RuntimeError(
            f"the horizon of {name!r}, {problem.horizon}, is no multiple of "
            f"{EVALUATIONS} times {problem.accumulate} accumulated gradients."
        )
    return Drawn(name, own, this.trade, shape, dealt(seed, index)[own], problem)


def parsed(name: str) -> tuple[str, int, int]:
    """``("conv", 0, 1)`` of ``"conv@0.1"``."""
    own, _, draw = name.partition("@")
    seed, _, index = draw.partition(".")
    if not (seed.isdecimal() and index.isdecimal()):
        raise ValueError(
            f"a problem is named family@seed.index, got {name!r}; try 'digits@0.0'."
        )
    family(own)
    return own, int(seed), int(index)


@functools.cache
def dealt(seed: int, index: int) -> dict[str, str]:
    """The optimizer of each family: a shuffled deck in which each has its share.

    A family that does not use what lies on top takes the next one that it uses, and its
    own first one where the deck has none left.
    """
    rng = np.random.default_rng([seed, index])
    exact = {name: share * len(NAMES) for name, share in USE.items()}
    counts = {name: int(x) for name, x in exact.items()}
    chance = np.array([exact[name] - counts[name] for name in USE])
    rest = len(NAMES) - sum(counts.values())
    for name in rng.choice([*USE], rest, replace=False, p=chance / chance.sum()):
        counts[name] += 1
    deck = [name for name, count in counts.items() for _ in range(count)]
    rng.shuffle(deck)
    hands = {}
    # Who is particular takes first, so that the shares hold as far as they can.
    order = map(str, rng.permutation(NAMES))
    for name in sorted(order, key=lambda name: not family(name).optimizers):
        uses = family(name).optimizers or tuple(USE)
        hands[name] = next((card for card in deck if card in uses), uses[0])
        if hands[name] in deck:
            deck.remove(hands[name])
    return hands


def instances(name: str, count: int) -> tuple[int, ...]:
    """The seeds of the worlds of a draw."""
    return tuple(zlib.crc32(f"{name}/{i}".encode()) for i in range(count))
