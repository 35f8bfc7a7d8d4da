"""``python -m benchmarks online``."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.online.page import (
    CONSTANT,
    MULTIPLES,
    Judged,
    Key,
    page,
    river_section,
)

RESULTS = Path(__file__).parent.parent / "results"
SEEDS, TUNING = 10, (100, 101, 102)  # judged, and the seeds of the tuning
SIZES = (1, 16)
WITH_RIVER: Key = ("regression", "switch every 1000", 1)
FREE = ("prodigy", "dog", "dowg")


def online(
    *,
    seeds: int = SEEDS,
    kind: tuple[str, ...] = (),
    steps: int | None = None,
    development: bool = False,
) -> None:
    """Hold the learners for streams against tuned constants and rate-free peers.

    Args:
      seeds: Of each stream.
      kind: Only streams of these kinds; the page is printed and not written then.
      steps: Length of every stream, likewise.
      development: Only the streams that are not held out, likewise.
    """
    from benchmarks.online import run, streams

    if seeds < 2:
        raise ValueError(f"`seeds` must be at least 2, got {seeds}; try --seeds 10.")
    if steps is not None and steps < run.PARTS:
        raise ValueError(
            f"`steps` must be at least {run.PARTS}, got {steps}; try --steps 1000."
        )
    unknown = set(kind) - set(streams.KINDS)
    if unknown:
        raise ValueError(f"no kind {unknown}; there are {', '.join(streams.KINDS)}.")
    chosen = [
        one
        for one in streams.STREAMS
        if (not kind or one.kind in kind) and not (development and one.held_out)
    ]
    found: dict[Key, Judged] = {}
    for name in streams.KINDS:
        some = [one for one in chosen if one.kind == name]
        for size in SIZES if some else ():
            found |= judged(some, size, seeds=seeds, steps=steps)
            print(f"{name}, batch {size}: done", flush=True)
    text = page(found, [one for one in chosen if one.held_out])
    if WITH_RIVER in found:
        text += f"\n\n{_river(found[WITH_RIVER], seeds, steps)}"
    print(text)
    if kind or steps or development:
        return
    path = RESULTS / "online.md"
    path.write_text(f"{text}\n")
    print(f"wrote {path}")


def _river(one: Judged, seeds: int, steps: int | None) -> str:
    """River's optimizers on the one stream that is run through it."""
    from benchmarks.online import streams, with_river

    if not with_river.installed():
        return "## river\n\nLeft out: it is not installed (`pip install river`)."
    (moves,) = (s.moves for s in streams.STREAMS if (s.kind, s.name) == WITH_RIVER[:2])
    length = steps or streams.KINDS[WITH_RIVER[0]]().steps
    tuned = with_river.tuned(moves, tuning=TUNING, seeds=range(seeds), steps=length)
    return river_section(WITH_RIVER, one, tuned)


def makers() -> dict[str, Callable]:
    """Every arm, as a function from a rate to an optimizer."""
    import optax

    import adaptive_optax as ao

    return {
        "sgd": optax.sgd,
        "adagrad": optax.adagrad,
        "online_sgd": ao.online_sgd,
        "online_adagrad": ao.online_adagrad,
        "prodigy": optax.contrib.prodigy,
        "dog": optax.contrib.dog,
        "dowg": optax.contrib.dowg,
    }


def judged(
    some: Sequence, size: int, *, seeds: int, steps: int | None
) -> dict[Key, Judged]:
    """Tune, then judge, all streams of one kind at one batch size."""
    from benchmarks.online import run

    kind, moves = some[0].kind, [one.moves for one in some]

    def losses(arm: str, rates: np.ndarray, of: Sequence[int]) -> np.ndarray:
        found, _ = run.progressive(
            kind, moves, make[arm], rates, of, size=size, steps=steps
        )
        return found.mean(axis=-1)

    make, held = makers(), range(seeds)
    grids = np.stack([run.grid()] * len(some)).astype(np.float32)
    tuned, constant, ours = {}, {}, {}
    for arm in CONSTANT:
        with np.errstate(invalid="ignore"):
            best = np.log(losses(arm, grids, TUNING)).mean(axis=-1).argmin(axis=1)
        tuned[arm] = run.grid()[best]
        rates = (tuned[arm][:, None] * MULTIPLES).astype(np.float32)
        constant[arm] = losses(arm, rates, held)
        ours[f"online_{arm}"] = losses(f"online_{arm}", rates, held)
    once = np.ones((len(some), 1), np.float32)
    free = {arm: losses(arm, once, held)[:, 0] for arm in FREE}
    return {
        (one.kind, one.name, size): Judged(
            rates={arm: float(rates[i]) for arm, rates in tuned.items()},
            constant={arm: loss[i] for arm, loss in constant.items()},
            ours={arm: loss[i] for arm, loss in ours.items()},
            free={arm: loss[i] for arm, loss in free.items()},
        )
        for i, one in enumerate(some)
    }
