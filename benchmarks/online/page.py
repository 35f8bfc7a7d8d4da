"""The page of ``python -m benchmarks online``."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks import hashes, markdown
from benchmarks.gains.page import ratio

MULTIPLES = (0.01, 0.1, 1.0, 10.0, 100.0)
CONSTANT = ("sgd", "adagrad")
MOST = np.log(10.0)  # a ratio counts as tenfold at most

Key = tuple[str, str, int]  # kind, stream, batch size


class Judged(NamedTuple):
    """The mean losses of a stream."""

    rates: dict[str, float]  # of the tuned constants
    constant: dict[str, np.ndarray]  # name -> f64[multiples, seeds]
    ours: dict[str, np.ndarray]
    free: dict[str, np.ndarray]  # name -> f64[seeds]


def page(found: dict[Key, Judged], held_out: Sequence) -> str:
    """The page: each learner at five base rates, and all of them at their best."""
    late = {(one.kind, one.name) for one in held_out}
    head = (
        "# Learners on streams\n\n"
        f"`python -m benchmarks online`, law `{hashes.law_hash()}`. Mean loss of each "
        "batch before it is learnt from, over the whole stream, in ratios to that of "
        "a constant rate, tuned on other seeds of the same stream (twofold grid). "
        "Geometric means with 95 % intervals of the mean over the seeds; a ratio "
        "counts as 10 at most. No number of the law was chosen on the streams that are "
        "*held out*."
    )
    parts = [head, _summary(found, late), _peers(found, late)]
    parts += [_by_rate(arm, found, late) for arm in CONSTANT]
    return "\n\n".join(parts)


def logs(loss: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Log ratios, at most tenfold."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(loss) - np.log(over)
    return np.clip(np.where(np.isnan(found), MOST, found), -MOST, MOST)


def _own(one: Judged, arm: str) -> np.ndarray:
    """f64[seeds]: the tuned constant of this inner optimizer."""
    return one.constant[arm][MULTIPLES.index(1.0)]


def best(one: Judged) -> np.ndarray:
    """f64[seeds]: the tuned constant that is better over the seeds."""
    return min((_own(one, arm) for arm in CONSTANT), key=lambda x: np.log(x).mean())


def _groups(found: dict[Key, Judged], late: set) -> dict[str, list[Key]]:
    groups = {
        "development": [key for key in found if key[:2] not in late],
        "held out": [key for key in found if key[:2] in late],
    }
    return {name: keys for name, keys in groups.items() if keys}


def _rate_rows(found: dict[Key, Judged], keys: Sequence[Key]):
    """Ours and the constants at every base rate: name, f64[streams, multiples, seeds].

    Each over the tuned constant of the same inner optimizer.
    """
    for arm in CONSTANT:
        for name in (f"online_{arm}", arm):
            yield (
                name,
                np.stack(
                    [
                        logs((found[key].ours | found[key].constant)[name], own)
                        for key in keys
                        for own in (_own(found[key], arm),)
                    ]
                ),
            )


def _summary(found: dict[Key, Judged], late: set) -> str:
    rows = []
    for group, keys in _groups(found, late).items():
        for name, ratios in _rate_rows(found, keys):
            means = [f"{ratio(ratios[:, i]):.3g}" for i in range(len(MULTIPLES))]
            worst = np.exp(ratios.mean(axis=2).max(axis=0))
            rows.append(
                (group, name, *means, f"{ratio(ratios):.3g}", f"{max(worst):.3g}")
            )
    columns = (*(f"x{m:g}" for m in MULTIPLES), "all", "worst stream and rate")
    return "\n\n".join(
        [
            "## All streams",
            "Over the tuned constant of the same optimizer, by the multiple of its "
            "rate that each is given.",
            markdown.table(("streams", "learner", *columns), rows),
        ]
    )


def _peers(found: dict[Key, Judged], late: set) -> str:
    rows, names = [], ()
    pooled: dict[tuple[str, str], list[np.ndarray]] = {}
    for group, keys in _groups(found, late).items():
        for key in keys:
            one, row = found[key], []
            arms = (
                {arm: _own(one, arm) for arm in CONSTANT}
                | {arm: x[MULTIPLES.index(1.0)] for arm, x in one.ours.items()}
                | one.free
            )
            names = tuple(arms)
            for arm, loss in arms.items():
                over = logs(loss, best(one))
                pooled.setdefault((group, arm), []).append(over)
                row.append(f"{np.exp(over.mean()):.3g}")
            rows.append(
                (f"{key[0]}, {key[1]}", key[2], f"{best(one).mean():.3g}", *row)
            )
        means = [f"{ratio(np.stack(pooled[group, arm])):.3g}" for arm in names]
        rows.append((f"**{group}**", "", "", *means))
    return "\n\n".join(
        [
            "## Over the better of the two tuned constants",
            "Ours at the tuned rate of its own inner optimizer. Prodigy, DoG and DoWG "
            "choose their own.",
            markdown.table(("stream", "batch", "best loss", *names), rows),
        ]
    )


def _by_rate(arm: str, found: dict[Key, Judged], late: set) -> str:
    rows = []
    for keys in _groups(found, late).values():
        for key in keys:
            one = found[key]
            ours = logs(one.ours[f"online_{arm}"], _own(one, arm))
            means = [f"{ratio(x):.3g}" for x in ours]
            rows.append(
                (f"{key[0]}, {key[1]}", key[2], f"{one.rates[arm]:.2g}", *means)
            )
    columns = ("stream", "batch", "tuned rate", *(f"x{m:g}" for m in MULTIPLES))
    return "\n\n".join([f"## online_{arm}", markdown.table(columns, rows)])


def river_section(
    key: Key, one: Judged, tuned: dict[str, tuple[float, np.ndarray]]
) -> str:
    """What river's linear regression reaches where it can learn the same stream."""
    rows = [
        (name, f"{rate:.2g}", f"{ratio(logs(loss, best(one))):.3g}")
        for name, (rate, loss) in tuned.items()
    ]
    for name, loss in one.ours.items():
        own = loss[MULTIPLES.index(1.0)]
        rate = one.rates[name.removeprefix("online_")]
        rows.append((name, f"{rate:.2g}", f"{ratio(logs(own, best(one))):.3g}"))
    return "\n\n".join(
        [
            "## river",
            f"`river.linear_model.LinearRegression` on {key[0]}, {key[1]}, batch "
            f"{key[2]}, with optimizers tuned as ours are (threefold grid), over the "
            "better of the two tuned constants. river learns in Python from one "
            "example at a time, so it is run on this stream alone; its SGD and AdaGrad "
            "are those above.",
            markdown.table(("optimizer", "rate", "ratio"), rows),
        ]
    )
