"""How far the base rate was from where the run wanted it, and what to try next."""

import math
from collections.abc import Iterable

from adaptive_optax._reasons import EventKind as Kind
from adaptive_optax.watch.run import Run, steps_of
from adaptive_optax.watch.words import CAUSES, NEW, SHARES, count, number

MUCH = 2.0  # factor between two rates that is worth telling


def on_rate(run: Run) -> Iterable[str]:
    """How far the base rate was from where the run wanted it."""
    if not run.got("fed") or run.unmoved:
        return
    moves = [event for event in run.events if event.kind not in SHARES]
    scale = run.got("lr_scale") or 1.0
    last = max(moves, key=lambda event: event.last, default=None)
    now = last.after if last else run.got("learning_rate")
    base = now / scale
    if moves and abs(math.log(moves[0].before / base)) > 0.05:
        yield (
            "The base rate follows a schedule, which the loop "
            f"{'would have' if run.observed else 'has'} multiplied by "
            f"{number(scale)} in the end."
        )
        return
    if run.observed:
        yield from _watched(run, base, now)
        return
    best, failed = _found(run, base), run.of(Kind.START_FAILED)
    factor = best / base
    tries = count(len(failed), "start was", "starts were")
    if failed and factor < 1:
        yield (
            f"The base rate of {number(base)} was about {number(1 / factor, 2)} times "
            f"too high: {tries} thrown away, and training worked at {number(best)}."
        )
    elif failed:
        yield (
            f"{tries} thrown away, but later the rate rose to {number(best)}, so the "
            f"base rate of {number(base)} was not too high: look for what else went "
            f"wrong at {steps_of(run.of(*CAUSES))}."
        )
    at = max((event.last for event in moves if event.after == best), default=0)
    if not failed and factor > MUCH:
        yield (
            f"The base rate of {number(base)} was about {number(factor, 2)} times too "
            f"low: the rate reached {number(best)} within {at} steps."
        )
    elif not failed and factor > 1 / MUCH:
        yield f"The base rate of {number(base)} was about right."
    level = [e for e in run.of(Kind.DECAYED, Kind.OPPOSED) if e.last > at]
    shorter = [e for e in run.of(Kind.NUDGED_DOWN) if e.last > at]
    if (level or shorter) and now < best / 1.05 and not run.of(Kind.CUT, *NEW):
        why = (
            f"which is right while the {run.what} is level"
            if level
            else "because the steps had become too long"
        )
        yield (
            f"Later the loop lowered the rate from {number(best)} to {number(now)}, "
            f"{why}."
        )
    if not 1 / MUCH < factor < MUCH:
        yield f"Next time try learning_rate={number(best, 2)}."


def _watched(run: Run, base: float, now: float) -> Iterable[str]:
    """What is said where the law only watched; it looks no further than twofold."""
    if thrown := run.of(*CAUSES):
        starts = any(event.kind <= Kind.START_NONFINITE for event in thrown)
        yield (
            f"The law would have gone back to earlier parameters at {steps_of(thrown)}"
            ", to see whether the data or the rate was at fault. It only watched, so "
            "this is not known: let it act, with mode='nudge'"
            f"{f', or try learning_rate={number(base / 5, 2)}' if starts else ''}."
        )
    elif now > 1.5 * base:
        yield (
            f"The base rate of {number(base)} is too low, by a factor of "
            f"{number(now / base, 2)} at least (a law that only watches looks no "
            "further than twofold): try mode='search', or learning_rate="
            f"{number(now, 2)}."
        )
    elif now < base / 1.5:
        yield (
            f"The law would by now have lowered the rate from {number(base)} to "
            f"{number(now)} or less: at this rate the loss no longer improves."
        )
    else:
        yield f"The law would have left the base rate of {number(base)} about as it is."


def _found(run: Run, base: float) -> float:
    """The best base rate that the run knows of."""
    turns = run.of(Kind.START_FAILED, Kind.LANDED)
    since = max((event.step for event in turns), default=0)
    held = run.of(Kind.START_PASSED, Kind.LANDED, Kind.NUDGED_UP, Kind.RAISED)
    rates = [event.after for event in held if event.last >= since]
    rates += [event.after for event in run.of(Kind.CLIMB) if event.last > since]
    if not rates and run.of(Kind.START_FAILED):
        rates = [run.of(Kind.START_FAILED)[-1].after]
    best = max(rates, default=base)
    if cut := run.of(Kind.CUT):
        best = min(best, min(event.before for event in cut) / 2)
    return best if math.isfinite(best) and best > 0 else base
