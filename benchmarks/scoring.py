"""From final metrics to figures, in NumPy alone; every function can be checked by hand.

A metric is lower-is-better; a ratio below 1 is better. Logs of ratios are averaged:
over the seeds and instances of a draw, over the draws of a family, over the families of
a trade, over the trades. So trades weigh alike, and families within a trade.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000  # of the bootstrap
CLIP = 10.0  # a ratio counts within [1 / CLIP, CLIP]: no single run rules a mean
TIE = 1.02  # a mean within this is a tie, however sure


class Interval(NamedTuple):
    """An estimate with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        return f"{self.value:{spec}} ({self.low:{spec}}–{self.high:{spec}})"

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``tie``: the interval holds 1, or all but 2 %."""
        if self.high < 1.0 and self.value < 1.0 / TIE:
            return "better"
        if self.low > 1.0 and self.value > TIE:
            return "worse"
        return "tie"

    @property
    def half_width(self) -> float:
        """Half the width of the interval, relative to the estimate."""
        return float(np.log(self.high / self.low) / 2)


class Place(NamedTuple):
    """Where a draw's figures weigh."""

    trade: str
    family: str
    draw: str


def cleaned(metric: np.ndarray, floor: float, cap: np.ndarray) -> np.ndarray:
    """The metric within [floor, cap], and ``cap`` where it is not finite.

    ``floor`` is the problem's noise level: below it nobody is better than another.
    ``cap`` is the metric before training: who ends above it would have kept the start.
    """
    metric = np.asarray(metric, np.float64)
    return np.clip(np.where(np.isfinite(metric), metric, cap), floor, cap)


def units(logs: Mapping[Place, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Trade -> family -> [units]: the means that the bootstrap draws from.

    A unit is a draw (its instances and seeds averaged) where a family has several, and
    an instance where it has one: then what another shape would change is left out.

    Args:
      logs: Place -> [instances, seeds], logarithms of ratios.
    """
    by_family: dict[tuple[str, str], list[np.ndarray]] = {}
    for place, values in logs.items():
        by_family.setdefault((place.trade, place.family), []).append(values)
    found: dict[str, dict[str, np.ndarray]] = {}
    for (trade, family), draws in by_family.items():
        several = len(draws) > 1
        means = [v.mean() for v in draws] if several else draws[0].mean(axis=1)
        found.setdefault(trade, {})[family] = np.asarray(means, np.float64)
    return found


def mean(logs: Mapping[Place, np.ndarray], *, seed: int = 0) -> Interval:
    """The geometric mean of ratios over trades, with its interval.

    The bootstrap resamples n - 1 of a family's n units, with replacement: with so few
    units the usual n of n would give too narrow an interval (Rao and Wu, Resampling
    inference with complex survey data, 1988). Families and trades are not resampled:
    the interval is of this list of trades.

    Args:
      logs: Place -> [instances, seeds], logarithms of ratios.
      seed: Of the bootstrap. The same seed resamples two peers alike.
    """
    rng = np.random.default_rng(seed)
    estimates, resampled = [], []
    for families in units(logs).values():
        estimates.append(np.mean([u.mean() for u in families.values()]))
        resampled.append(np.mean([_resample(u, rng) for u in families.values()], 0))
    value = np.exp(np.mean(estimates))
    low, high = np.exp(np.quantile(np.mean(resampled, 0), [0.025, 0.975]))
    return Interval(float(value), float(low), float(high))


def _resample(unit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[RESAMPLES] means of n - 1 of n; of a single unit, the unit."""
    if len(unit) == 1:
        return np.full(RESAMPLES, unit[0])
    drawn = rng.integers(len(unit), size=(RESAMPLES, len(unit) - 1))
    return unit[drawn].mean(axis=1)


def log_ratios(
    finals: Mapping[Place, np.ndarray], references: Mapping[Place, np.ndarray]
) -> dict[Place, np.ndarray]:
    """Place -> log of finals over references, within ``CLIP``."""
    bound = np.log(CLIP)
    return {
        place: np.clip(np.log(values / references[place]), -bound, bound)
        for place, values in finals.items()
    }


def pooled(parts: Sequence[Mapping[Place, np.ndarray]]) -> dict[Place, np.ndarray]:
    """The mean of several figures of the same runs, place by place."""
    return {
        place: np.mean([part[place] for part in parts], axis=0) for place in parts[0]
    }


def by_family(logs: Mapping[Place, np.ndarray]) -> dict[str, Interval]:
    """The geometric mean of each family by itself."""
    places: dict[str, dict[Place, np.ndarray]] = {}
    for place, values in logs.items():
        places.setdefault(place.family, {})[place] = values
    return {family: mean(some) for family, some in places.items()}


def by_trade(logs: Mapping[Place, np.ndarray]) -> dict[str, Interval]:
    """The geometric mean of each trade by itself."""
    places: dict[str, dict[Place, np.ndarray]] = {}
    for place, values in logs.items():
        places.setdefault(place.trade, {})[place] = values
    return {trade: mean(some) for trade, some in places.items()}
