"""The faults, by name. Steps are of a run of 1,000; late is `fault.LATE`.

A *loss* that is infinite takes its gradient with it. A loss *reported* as something is
wrong alone, and the gradient is sound.
"""

import numpy as np

from benchmarks.faults.fault import ENDLESS, LATE, Fault, infinite_loss

inf, nan = np.inf, np.nan
EARLY = 30  # in the midst of the audit of the start

NONE = "no fault"


def _count(losses: int) -> str:
    """Say how many."""
    return "1 infinite loss" if losses == 1 else f"{losses} infinite losses"


def _losses() -> dict[str, Fault]:
    """Losses that are not finite, and losses that nobody reports."""
    late = {f"{_count(n)}, late": infinite_loss(LATE, n) for n in (1, 3, 10, 40)}
    early = {
        f"{_count(n)} from step {EARLY}": infinite_loss(EARLY, n)
        for n in (1, 3, 10, 40)
    }
    endless = {"count": ENDLESS}
    return {
        **early,
        "30 infinite losses from step 80": infinite_loss(80, 30),
        **late,
        "3 infinite losses every 100 steps": infinite_loss(
            100, period=100, width=3, **endless
        ),
        "every second loss infinite, late": infinite_loss(LATE, period=2, **endless),
        "9 of 10 losses infinite, late": infinite_loss(
            LATE, period=10, width=9, **endless
        ),
        "infinite loss reported at 3 of 100 steps": Fault(
            100, period=100, width=3, value_shift=inf
        ),
        "NaN loss reported at 4 of 5 steps": Fault(
            1, period=5, width=4, value_shift=nan
        ),
        "loss reported every 10th step, NaN between": Fault(
            1, period=10, width=9, value_shift=nan
        ),
    }


def _gradients() -> dict[str, Fault]:
    """Gradients that are not finite under a finite loss, and gradients of zero."""
    return {
        "NaN in one leaf's gradient, once": Fault(
            LATE, LATE + 1, grad_shift=nan, one_leaf=True
        ),
        "NaN in all gradients, once": Fault(LATE, LATE + 1, grad_shift=nan),
        "NaN in one leaf's gradient, 5 of 100 steps": Fault(
            100, period=100, width=5, grad_shift=nan, one_leaf=True
        ),
        "NaN in all gradients, 5 of 100 steps": Fault(
            100, period=100, width=5, grad_shift=nan
        ),
        "12 infinite gradients from step 0": Fault(0, 12, grad_shift=inf),
        "12 infinite gradients from step 15": Fault(15, 27, grad_shift=inf),
        "gradients zero for 100 steps": Fault(LATE, LATE + 100, grad_scale=0.0),
    }


def _spikes() -> dict[str, Fault]:
    """Sizes that are a million times wrong once."""
    once = {"start": LATE, "stop": LATE + 1}
    return {
        "loss x1e6 once": Fault(**once, value_scale=1e6),
        "gradient x1e6 once": Fault(**once, grad_scale=1e6),
        "loss and gradient x1e6 once": Fault(**once, value_scale=1e6, grad_scale=1e6),
    }


def _labels() -> dict[str, Fault]:
    """Batches whose labels are random."""
    late = {
        f"{n} batches of random labels, late": Fault(LATE, LATE + n, random_labels=True)
        for n in (3, 20, 30, 40, 120)
    }
    start = {
        f"{n} batches of random labels at the start": Fault(0, n, random_labels=True)
        for n in (40, 120, 300)
    }
    return late | start


def _rates() -> dict[str, Fault]:
    """A base rate that is wrong for a while or for good."""
    return {
        "rate x1e4 once": Fault(LATE, LATE + 1, rate_scale=1e4),
        "rate x1e4 for 15 steps": Fault(LATE, LATE + 15, rate_scale=1e4),
        "rate x1e4 for good": Fault(LATE, rate_scale=1e4),
        "rate x30 for good": Fault(LATE, rate_scale=30.0),
    }


def _levels() -> dict[str, Fault]:
    """A loss that is reported at another level, or late."""
    return {
        "loss reported as 1": Fault(0, value_scale=0.0, value_shift=1.0),
        "loss reported as 0": Fault(0, value_scale=0.0),
        "loss reported - 7": Fault(0, value_shift=-7.0),
        "loss reported + 100": Fault(0, value_shift=100.0),
        "loss reported + 1e4": Fault(0, value_shift=1e4),
        "loss reported + 100, late": Fault(LATE, value_shift=100.0),
        "loss reported x8, late": Fault(LATE, value_scale=8.0),
        "loss reported /8, late": Fault(LATE, value_scale=1 / 8),
        "loss reported 20 steps late": Fault(0, stale=True),
    }


def _tasks() -> dict[str, Fault]:
    """A start, a batch or a task that is not what it should be."""
    return {
        "initialisation x.02": Fault(0, init_scale=0.02),
        "initialisation x10": Fault(0, init_scale=10.0),
        "features permuted, late": Fault(LATE, permuted=True),
        "batch 8 times larger, late": Fault(LATE, wide=True),
        "4 gradients accumulated": Fault(0, accumulate=4),
    }


FAULTS: dict[str, Fault] = (
    {NONE: Fault()}
    | _losses()
    | _gradients()
    | _spikes()
    | _labels()
    | _rates()
    | _levels()
    | _tasks()
)


def named(parts: tuple[str, ...]) -> dict[str, Fault]:
    """The faults whose names contain one of ``parts``, and the run without any.

    Raises:
      ValueError: If no name contains one of them.
    """
    if not parts:
        return FAULTS
    for part in parts:
        if not any(part in name for name in FAULTS):
            raise ValueError(
                f"no fault's name contains {part!r}; the names: {'; '.join(FAULTS)}."
            )
    wanted = {
        name: fault
        for name, fault in FAULTS.items()
        if any(part in name for part in parts)
    }
    return {NONE: FAULTS[NONE]} | wanted
