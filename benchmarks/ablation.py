"""Each part of the law taken out once, and the prior's strength along its range.

A part is taken out by one line appended to a copy of the package, so what is judged is
the law as it stands but for that line. Development workloads only, some of them also
under optimizers that are not their own.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cells, protocol, scoring, workloads
from benchmarks.cells import Cell, Result

PAIRS = (
    "quadratic",
    "logistic/lion",
    "digits_mlp",
    "digits_mlp@80/rmsprop",
    "factorization@120/adam",
    "shift/adagrad",
    "bandit@80",
    "sine",
)
HEADLESS = "lambda s, state: (s._replace(heading=jnp.float32(-jnp.inf)), state)"
HOLD = "Rule(lambda: (), lambda signals, state: (jnp.zeros((), jnp.float32), state))"
PARTS = {
    "the warm-up of the audit": ("supervise/audit", "WARMUP_STEPS = 1"),
    "the audit": ("supervise/audit", "AUDIT_STEPS = WARMUP_STEPS = 1"),
    "its patience beyond the warm-up": (
        "supervise/audit",
        "AUDIT_STEPS = WARMUP_STEPS",
    ),
    "its cut after a late pass": ("supervise/audit", "PASSED_LATE = 0.0"),
    "its test for dead gradients": ("supervise/evidence", "DEAD = 0.0"),
    "its test for steps that carry on": (
        "supervise/audit",
        "OVERSHOT = AGREED = math.inf",
    ),
    "its ear for agreement that ends": ("supervise/audit", "AGREED = math.inf"),
    "the second try of its rate": ("supervise/retry", "STILL = -jnp.inf"),
    "the guard": ("supervise/evidence", "GUARD_LEVELS = math.inf"),
    "the guard's acquittal": ("supervise/guard", "ACQUITTED_AT = math.inf"),
    "its early climb": ("rules/search", "UNMOVED = 0.0"),
    "the heading": (
        "sense/sensor",
        f"measure = (lambda old: lambda *a, **k: ({HEADLESS})(*old(*a, **k)))(measure)",
    ),
    "the climb's waiting": ("rules/search", "RECEDED = math.inf"),
    "search": ("rules/search", "search = lambda then, **_: then"),
    "nudge": ("rules/search", f"alignment = lambda **_: {HOLD}"),
    "settle": ("rules/search", f"settle = lambda: {HOLD}"),
    "the average's window": ("act/window", "SHRINK = 0.0"),
}
STRENGTHS = {
    "1.5": "ours(mode=1.5)",
    "3, search": "search",
    "6, nudge": "nudge",
    "12": "ours(mode=12)",
    "inf, safe": "safe",
}
LABELS = ("x0.01", "x0.1", "x1", "x3.16", "x10", "x100", "x1000", "x10000", "default")


def without(module: str, line: str, folder: Path) -> str:
    """A copy of the package with one more line at the end of one module."""
    target = Path(tempfile.mkdtemp(dir=folder))
    shutil.copytree(cells.ROOT / "adaptive_optax", target / "adaptive_optax")
    file = target / "adaptive_optax" / f"{module}.py"
    file.write_text(f"{file.read_text()}\n{line}\n")
    return str(target)


def table(
    names: tuple[str, ...] = PAIRS,
    *,
    progress: Callable[..., Iterator[tuple[Result, bool]]],
    seeds: tuple[int, ...] = protocol.SEEDS,
    workers: int | None = None,
) -> str:
    """Run what is missing and write both tables as Markdown."""
    oracles = protocol.compute_oracles(names, progress=progress, workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        variants = {"nothing": ("nudge", "")}
        for part, (module, line) in PARTS.items():
            variants[part] = ("nudge", without(module, line, Path(folder)))
        variants |= {text: (peer, "") for text, peer in STRENGTHS.items()}
        wanted = {
            (variant, name): Cell(
                name,
                peer,
                tuple(protocol.lanes(name, peer, oracles).items()),
                seeds,
                code,
            )
            for variant, (peer, code) in variants.items()
            for name in names
        }
        todo = list(dict.fromkeys(wanted.values()))
        done = {r.cell: r for r, _ in progress(cells.run(todo, workers=workers), todo)}

    def ratios(variant: str, kind: str = "own") -> np.ndarray:
        return np.stack(
            [
                _finals(done[wanted[variant, name]], kind)
                / oracles[name]["cosine"]["metric"]
                for name in names
            ]
        )  # [W, L, S]

    parts = {part: ratios(part) for part in ("nothing", *PARTS)}
    parts["the average of the parameters"] = ratios("nothing", "last")
    curve = {strength: ratios(strength) for strength in STRENGTHS}
    return "\n\n".join(
        [
            f"{len(names)} development pairs of workload and optimizer: "
            f"{', '.join(names)}. {len(seeds)} seeds; geometric means of the final "
            "metric over the oracle's, ratios clipped to [0.1, 10] so that no one "
            "workload rules.",
            "## Without one part",
            _markdown("without", parts),
            "## The prior's strength",
            _markdown("strength", curve),
        ]
    )


def _finals(result: Result, kind: str) -> np.ndarray:
    if result.error is not None:
        raise RuntimeError(f"{result.cell.workload}: {result.error}")
    workload = workloads.get(result.cell.workload)
    start = float(np.median(result.curves["last"][..., 0]))
    return np.stack(
        [
            scoring.cleaned(result.curve(kind, label)[:, -1], workload.floor, start)
            for label in LABELS
        ]
    )


def _markdown(what: str, rows: dict[str, Any]) -> str:
    lines = [
        f"| {what} | " + " | ".join(LABELS) + " |",
        "|---" * (len(LABELS) + 1) + "|",
    ]
    for name, ratio in rows.items():
        means = np.exp(np.clip(np.log(ratio), -np.log(10), np.log(10)).mean((0, 2)))
        lines.append(f"| {name} | " + " | ".join(f"{m:.2f}" for m in means) + " |")
    return "\n".join(lines)
