"""From curves to figures, in NumPy alone; every function can be checked by hand.

A metric is lower-is-better. Time is counted in steps. An axis is one of peers P,
workloads W, seeds S, bootstrap draws B.
"""

from typing import NamedTuple

import numpy as np

R_MAX = 4.0  # of the performance profile, as in AlgoPerf
DRAWS = 1000  # of the bootstrap


class Interval(NamedTuple):
    """An estimate with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        return f"{self.value:{spec}} ({self.low:{spec}}–{self.high:{spec}})"


def cleaned(metric: np.ndarray, floor: float, cap: float) -> np.ndarray:
    """The metric within [floor, cap], and ``cap`` where it is not finite.

    ``floor`` is the workload's noise level: below it nobody is better than another.
    ``cap`` is the metric before training: who ends above it would have kept the start.
    """
    metric = np.asarray(metric, np.float64)
    return np.clip(np.where(np.isfinite(metric), metric, cap), floor, cap)


def diverged(final: np.ndarray, cap: float) -> np.ndarray:
    """Whether a run ended worse than it began, or not at a number."""
    return ~(np.asarray(final) <= cap)


def time_to_target(curve: np.ndarray, steps: np.ndarray, target: float) -> np.ndarray:
    """First evaluated step at or below the target, inf if there is none.

    Args:
      curve: [..., E], not finite where the run has diverged.
      steps: [E], the steps of the evaluations.
      target: The metric to reach.

    Returns:
      [...]
    """
    reached = np.asarray(curve) <= target
    first = np.asarray(steps, np.float64)[np.argmax(reached, axis=-1)]
    return np.where(reached.any(axis=-1), first, np.inf)


def ratios_to_best(times: np.ndarray) -> np.ndarray:
    """[P, W] times over the fastest peer's on each workload; inf where never.

    A workload that nobody solves is lost by all.
    """
    best = times.min(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore"):
        ratios = times / best
    return np.where(np.isfinite(times), ratios, np.inf)


def profile(ratios: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """[P, T] share of workloads solved within tau times the fastest peer's time."""
    return (ratios[:, None, :] <= taus[None, :, None]).mean(axis=-1)


def integrated_score(ratios: np.ndarray, r_max: float = R_MAX) -> np.ndarray:
    """B = 1/(r_max - 1) times the integral of the profile from 1 to r_max.

    The profile is a staircase, so the integral is exact: a workload solved at ratio r
    adds the share of [1, r_max] that lies above r.

    References:
      Dahl et al., Benchmarking neural network training algorithms, 2023, section 4.5.
    """
    return np.mean(np.clip((r_max - ratios) / (r_max - 1.0), 0.0, 1.0), axis=-1)


def ranks(scores: np.ndarray) -> np.ndarray:
    """1 for the highest; equal scores share the better rank."""
    scores = np.asarray(scores)
    return 1 + (scores[None, :] > scores[:, None]).sum(axis=1)


def draws(
    workloads: int, seeds: int, *, count: int = DRAWS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Indices [B, W, 1] and [B, W, S] that resample workloads, and seeds within each.

    The same draw serves every peer: they met the same workloads and seeds.
    """
    rng = np.random.default_rng(seed)
    which = rng.integers(workloads, size=(count, workloads, 1))
    return which, rng.integers(seeds, size=(count, workloads, seeds))


def mean_of_medians(values: np.ndarray, *, seed: int = 0) -> Interval:
    """Of [W, S]: median over seeds, mean over workloads."""
    value = np.median(values, axis=1).mean()
    drawn = np.median(values[draws(*values.shape, seed=seed)], axis=-1)
    low, high = np.quantile(drawn.mean(axis=-1), [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def geometric_mean(ratios: np.ndarray, *, seed: int = 0) -> Interval:
    """Of [W, S] ratios: median over seeds, geometric mean over workloads."""
    logs = mean_of_medians(np.log(ratios), seed=seed)
    return Interval(*(float(np.exp(log)) for log in logs))


def progress(
    finals: np.ndarray, start: np.ndarray, oracle: np.ndarray, *, seed: int = 0
) -> Interval:
    """The share of the oracle's way that a run has gone, on a log scale; mean over W.

    One workload whose metric spans many decades can rule a geometric mean of ratios;
    here each counts the same, from 0 for the start to 1 for the oracle.

    Args:
      finals: [W, S].
      start: [W, 1], the metric before training.
      oracle: [W, 1], below ``start``.
      seed: Of the bootstrap.
    """
    return mean_of_medians(np.log(start / finals) / np.log(start / oracle), seed=seed)


def score(times: np.ndarray, *, seed: int = 0) -> list[Interval]:
    """Integrated scores of [P, W, S] times, each median over seeds, with intervals."""
    values = integrated_score(ratios_to_best(np.median(times, axis=-1)))
    which, who = draws(*times.shape[1:], seed=seed)
    drawn = np.median(times[:, which, who], axis=-1)  # [P, B, W]
    scores = integrated_score(ratios_to_best(np.moveaxis(drawn, 1, 0)))  # [B, P]
    low, high = np.quantile(scores, [0.025, 0.975], axis=0)
    return [Interval(*map(float, row)) for row in zip(values, low, high, strict=True)]


def steps_to_recover(
    curve: np.ndarray, steps: np.ndarray, disturbed_at: int, level: float
) -> np.ndarray:
    """Steps from the disturbance until the metric is at or below ``level`` for good.

    Args:
      curve: [..., E].
      steps: [E].
      disturbed_at: Step of the disturbance.
      level: What counts as recovered.

    Returns:
      [...], inf where it does not recover within the run; "for good" because an
      evaluation that dips below the level once by luck is no recovery.
    """
    after = np.asarray(steps) > disturbed_at
    below = np.asarray(curve)[..., after] <= level
    # The last evaluation that is still above the level decides.
    held = np.flip(np.logical_and.accumulate(np.flip(below, -1), axis=-1), -1)
    first = (np.asarray(steps, np.float64)[after] - disturbed_at)[held.argmax(axis=-1)]
    return np.where(held.any(axis=-1), first, np.inf)


def tuned(times: np.ndarray, finals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best of each study's trials: [..., T, S] -> times and finals [..., S].

    A study is a seed, as in AlgoPerf's external tuning: its fastest trial counts, and
    for the final metric its lowest.
    """
    return times.min(axis=-2), finals.min(axis=-2)
