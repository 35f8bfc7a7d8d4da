"""What a run of `mnist` is told: its flags, their checks, and the optimizer of them."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import optax

import adaptive_optax as ao
from examples.mechanisms import (
    MOMENTUM_RULES,
    SIGMA_RULES,
    check_ablation,
    check_length,
    freeze,
)

# The factory, and what it calls its momentum.
OPTIMIZERS = {
    "adam": (optax.adam, "b1"),
    "adamw": (optax.adamw, "b1"),
    "sgd": (optax.sgd, "momentum"),
    "adagrad": (optax.adagrad, None),
    "lion": (optax.lion, "b1"),
}


@dataclass(frozen=True)
class Config:
    """What to run. The controller's settings are those of `adaptive_scheduler`."""

    optimizer: Literal["adam", "adamw", "sgd", "adagrad", "lion"] = "adam"
    """The inner Optax optimizer."""
    learning_rate: float = 1e-3
    """Its base rate; the loop starts there."""
    momentum: float = 0.9
    """Its base momentum; adagrad has none."""
    mode: Literal["nudge", "search", "safe"] = "nudge"
    """How far to believe the base rate."""
    momentum_rule: Literal["hold", "auto", "alignment", "trend"] = "trend"
    """What moves the momentum."""
    sigma: float = 1e-3
    """Noise on the parameters, relative to their size."""
    sigma_rule: Literal["success", "auto"] = "success"
    """What moves the noise: success, or single kicks of it on a plateau."""
    lr_bounds: tuple[float, float] = (1e-6, 1.0)
    """Of the learning rate."""
    mu_bounds: tuple[float, float] = (0.0, 0.98)
    """Of the momentum."""
    sigma_bounds: tuple[float, float] = (0.0, 1e-2)
    """Of sigma."""
    ema_decay: float = 0.9
    """Of the fast loss trend, and of the gradient norms that freezing looks at."""
    freeze_threshold: float = 0.65
    """Gradient norm under which a layer freezes; 0 freezes nothing."""
    freeze_relative_to: Literal["absolute", "initial", "largest"] = "largest"
    """What the threshold multiplies: 1, the layer's own first norm, or the largest."""
    anneal: bool = True
    """Let the rate and the noise fall to 0 over the last 30 % of the run."""
    control: bool = True
    """The loop; without it the optimizer trains alone, at its base rate."""

    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 64
    """Images in one step."""
    seed: int = 0
    """Of the initial parameters, the order of the images and the noise."""
    data_dir: Path | None = None
    """Folder with the four MNIST idx files, gzipped or not."""
    output: Path = Path("mnist.png")
    """Where to draw the loop; the layers that rest are drawn beside it."""
    compare: bool = False
    """Also train at the constant base rate, and draw both."""
    ablate: bool = False
    """Train without each mechanism in turn, and print what each has earned."""
    seeds: int = 3
    """Runs of each with --ablate."""


def check(config: Config, count: int) -> None:
    """Fail on a number that no run can have.

    Raises:
      ValueError: If there is one.
    """
    if not 1 <= config.batch_size <= count:
        raise ValueError(
            f"--batch-size must lie in [1, {count}], got {config.batch_size}"
        )
    if config.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {config.epochs}")
    if config.ablate:
        check_ablation(config, config.seeds)
    if not config.output.parent.is_dir():  # before the training, not after it
        raise ValueError(f"--output {config.output}: there is no such folder")
    if config.momentum_rule != "hold" and OPTIMIZERS[config.optimizer][1] is None:
        raise ValueError(
            f"--optimizer {config.optimizer} has no momentum to move; add "
            "--momentum-rule hold"
        )
    steps = config.epochs * (count // config.batch_size)
    check_length(config, steps, "more --epochs or a smaller --batch-size")


@functools.cache
def make_optimizer(config: Config, total_steps: int) -> optax.GradientTransformation:
    """The controller around the chosen optimizer, or that one alone."""
    (factory, name), rate = OPTIMIZERS[config.optimizer], config.learning_rate
    if not config.control:
        given = {} if name is None else {name: config.momentum}
        # The average only watches: this trains exactly as the optimizer alone does.
        return optax.chain(factory(rate, **given), ao.average_params())
    return ao.adaptive_scheduler(
        factory,
        rate,
        momentum=None if name is None else config.momentum,
        mode=config.mode,
        momentum_rule=MOMENTUM_RULES[config.momentum_rule](),
        sigma=config.sigma,
        sigma_rule=SIGMA_RULES[config.sigma_rule](),
        lr_bounds=config.lr_bounds,
        mu_bounds=config.mu_bounds,
        sigma_bounds=config.sigma_bounds,
        freeze=freeze(config, groups=lambda path: path.split("/")[0], never="out"),
        total_steps=total_steps if config.anneal else None,
        ema_decay=config.ema_decay,
        seed=config.seed,
    )
