"""The page of the gains: its tables, and how one of them is put in place of another."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks import markdown, scoring
from benchmarks.gains.arms import PLAIN, WITHOUT, Study
from benchmarks.gains.prior import Alone

Found = Mapping[tuple[str, str], np.ndarray]  # work, arm

_ALONE = (
    'The arms from "constant rate" on run without the loop; the better of their last '
    "parameters and of their average counts."
)
NOTES = {
    "Prior art of SGD's momentum": (
        "YellowFin sets its own rate and momentum. With a factor its rate is "
        "multiplied by the seed's base rate over the work's own; the last column has "
        f"its means over 100 steps in place of 1,000 besides. {_ALONE}"
    ),
    "Prior art of Adam's momentum": (
        "AdEMAMix warms up alpha, to 5, and b3 over the whole run, as its paper says, "
        "and holds b1; in the loop b3 is .999. Its steps are up to six times as long "
        "as Adam's; with a sixth of the rate they are no longer. In the last column "
        "Adam's b1 rises from .9 on the curve of b3. "
        f"{_ALONE}"
    ),
}


def ratio(logs: np.ndarray) -> scoring.Interval:
    """The geometric mean of ratios and the 95 % interval of the mean over seeds.

    Args:
      logs: f64[..., seeds], logarithms of ratios.
    """
    of_seed = logs.reshape(-1, logs.shape[-1]).mean(axis=0)
    mean, error = of_seed.mean(), of_seed.std(ddof=1) / np.sqrt(len(of_seed))
    # Student's t of 9 degrees of freedom; exact for ten seeds, near enough for others.
    bounds = mean + np.array([0.0, -2.26, 2.26]) * error
    return scoring.Interval(*(float(x) for x in np.exp(bounds)))


def table(study: Study, found: Found, seeds: int, law: str = "") -> str:
    """A study's section.

    Args:
      study: Which.
      found: f64[momenta, seeds], final metrics of each work and arm.
      seeds: How many each has.
      law: Hash of the law, named where the page's own is another's.
    """
    said = [
        f"{seeds} seeds, each at a base rate between a third and three times the "
        "work's own.",
        NOTES.get(study.title, ""),
        f"Law `{law}`." if law else "",
    ]
    return "\n\n".join(
        [
            f"## {study.title}",
            " ".join(one for one in said if one),
            *(_over(study, base, found) for base in study.bases),
        ]
    )


def _over(study: Study, base: str, found: Found) -> str:
    """Each arm over one of them; a constant rate is no base for the loop's."""
    arms = [
        name
        for name, arm in study.arms.items()
        if name not in (WITHOUT, base) and (base != PLAIN or isinstance(arm, Alone))
    ]
    rows, pooled = [], {(arm, i): [] for arm in arms for i in range(len(study.momenta))}
    for work in study.works:
        under = found[work, base]
        for i, momentum in enumerate(study.momenta):
            cells_of = []
            for arm in arms:
                logs = np.log(found[work, arm][i] / under[i])
                pooled[arm, i].append(logs)
                cells_of.append(f"{ratio(logs):.3g}")
            ends = f"{np.exp(np.log(under[i]).mean()):.2g}"
            rows.append((work, f"{momentum:g}", ends, *cells_of))
    for i, momentum in enumerate(study.momenta):
        means = (f"{ratio(np.stack(pooled[arm, i])):.3g}" for arm in arms)
        rows.append(("**all**", f"{momentum:g}", "", *means))
    return markdown.table(("work", "momentum", base, *arms), rows)


def with_sections(page: str, parts: Sequence[str]) -> str:
    """A page in which sections replace those of their titles, or stand at its end."""
    head, *old = page.rstrip("\n").split("\n\n## ")
    sections = {_title(f"## {one}"): f"## {one}" for one in old}
    sections.update({_title(one): one.rstrip("\n") for one in parts})
    return "\n\n".join([head, *sections.values()]) + "\n"


def _title(section: str) -> str:
    return section.split("\n", 1)[0]
