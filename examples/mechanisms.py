"""What both demonstrations share: their rules, which blocks rest, and the ablation.

An ablation is the same run again, each time without one mechanism. Every row of its
table is divided by the run that has them all: above 1 the mechanism has earned that
much, below 1 it has cost that much.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import adaptive_optax as ao

MOMENTUM_RULES = {
    "hold": lambda: None,
    "auto": lambda: "auto",
    "alignment": ao.rules.alignment,
    # At a quarter of the usual pace: the memory grows with the run, not in 50 steps.
    "trend": lambda: ao.rules.trend(up=1.005),
}
SIGMA_RULES = {"success": lambda: None, "auto": lambda: "auto"}

ALL = "everything"
WITHOUT = {
    "momentum held": {"momentum_rule": "hold"},
    "no dither": {"sigma": 0.0, "sigma_rule": "success"},
    "nothing freezes": {"freeze_threshold": 0.0},
    "rate not annealed": {"anneal": False},
    "optimizer alone, constant rate": {"control": False},
}
FROZEN = "frozen/"
SKIPPED = "backward_skipped"


class Outcome(NamedTuple):
    """What one run came to."""

    loss: float  # on held-out data, of the parameters that one would ship
    last: float  # the same of the last step's parameters
    seconds: float  # CPU time of a step, without compilation
    skipped: float  # share of the backward FLOPs that was not run
    accuracy: float = float("nan")


def freeze(config: Any, *, hysteresis: float = 1.2, **options: Any) -> ao.Freeze | None:
    """When blocks rest, and when they wake.

    A block rests while its gradient is small beside the largest one, and wakes when the
    others have caught up, which takes a narrow hysteresis. Minibatches make a norm
    uncertain, so a probe lasts some steps.
    """
    if not config.freeze_threshold:
        return None
    return ao.Freeze(
        config.freeze_threshold,
        ema_decay=config.ema_decay,
        relative_to=config.freeze_relative_to,
        hysteresis=hysteresis,
        min_dwell=25,
        probe_steps=4,
        **options,
    )


def frozen_blocks(opt_state: Any, params: Any, labels: Any) -> dict[str, jax.Array]:
    """Which blocks rest at this step: {"frozen/block": bool[]}, or bool[L] if stacked.

    Args:
      opt_state: Of an optimizer that freezes.
      params: The parameters.
      labels: Which leaves freeze as one, a pytree of names like ``params``.
    """
    masks = jax.tree.leaves(ao.frozen_mask(opt_state, params))
    names = jax.tree.leaves(labels)
    return {FROZEN + name: mask for name, mask in zip(names, masks, strict=True)}


def draw_freezing(history: ao.History, title: str, path: Path) -> bool:
    """Draw which blocks rested when; False if none could."""
    columns = history.as_dict()
    masks = {
        key.removeprefix(FROZEN): x > 0  # a file holds 0 and 1
        for key, x in columns.items()
        if key.startswith(FROZEN)
    }
    if masks:
        ao.plot_freezing(masks, title=title, path=path)
    return bool(masks)


def without(config: Any) -> dict[str, Any]:
    """The configuration by the name of what it lacks; one that lacks it is left out."""
    runs = {ALL: config}
    for name, changes in WITHOUT.items():
        changed = dataclasses.replace(config, **changes)
        if changed != config:
            runs[name] = changed
    return runs


def check_ablation(config: Any, seeds: int) -> None:
    """Fail where there is nothing to compare.

    Raises:
      ValueError: If there is no run of each, or nothing to leave out.
    """
    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {seeds}")
    if not config.control:
        raise ValueError("--no-control leaves nothing to ablate; give --control")


def check_length(config: Any, steps: int, more: str) -> None:
    """Fail where a run is too short to end with a falling rate.

    Args:
      config: Its flags.
      steps: Its length.
      more: The flags that lengthen it.

    Raises:
      ValueError: If it is.
    """
    if config.control and config.anneal and steps < (least := ao.law.Audit().steps):
        raise ValueError(
            f"{steps} steps are too few, the start alone is watched for {least}: give "
            f"{more}, or --no-anneal"
        )


def ablate(config: Any, run: Callable[[str, Any], Outcome], seeds: int) -> str:
    """Run everything, and everything but one; returns the table.

    Args:
      config: A dataclass with the fields of `WITHOUT` and ``seed``.
      run: From a name and a configuration to what came of it.
      seeds: Runs of each, with successive seeds.

    Raises:
      ValueError: If there is no run of each, or nothing to leave out.
    """
    check_ablation(config, seeds)
    return table(
        {
            name: [
                run(name, dataclasses.replace(one, seed=config.seed + i))
                for i in range(seeds)
            ]
            for name, one in without(config).items()
        }
    )


def table(outcomes: dict[str, Sequence[Outcome]]) -> str:
    """A Markdown table: a row a mechanism, ratios over the run with all of them."""
    full = outcomes[ALL]
    scored = not np.isnan([one.accuracy for one in full]).any()
    head = ["run", "loss", "over everything", "accuracy", "CPU ms a step"]
    head += ["over everything", "backward skipped"]
    rows = [head, ["---"] * len(head)]
    rows.append(_row(ALL, full, full))
    last = [one._replace(loss=one.last, accuracy=float("nan")) for one in full]
    rows.append(_row("the same, last step's parameters", last, full))
    rows += [_row(name, runs, full) for name, runs in outcomes.items() if name != ALL]
    kept = [i for i, name in enumerate(head) if scored or name != "accuracy"]
    return "\n".join("| " + " | ".join(row[i] for i in kept) + " |" for row in rows)


def _row(name: str, runs: Sequence[Outcome], full: Sequence[Outcome]) -> list[str]:
    loss, time, skipped, accuracy = (
        np.array([getattr(one, key) for one in runs])
        for key in ("loss", "seconds", "skipped", "accuracy")
    )
    ratio = loss / np.array([one.loss for one in full])
    spread = f" ({ratio.min():.3f} to {ratio.max():.3f})" if len(ratio) > 1 else ""
    slower = np.median(time) / np.median([one.seconds for one in full])
    told = f"{accuracy.mean():.4f}" if np.isfinite(accuracy).all() else ""
    return [
        name,
        f"{loss.mean():.4f}",
        f"{np.exp(np.log(ratio).mean()):.3f}{spread}",
        told,
        f"{1e3 * np.median(time):.1f}",
        f"{slower:.2f}",
        f"{skipped.mean():.0%}",
    ]
