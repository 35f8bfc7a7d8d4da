"""SGD, AdamW and Muon, under the controller or alone."""

import functools
from typing import Any, Protocol

import jax
import optax
import optax.contrib

import adaptive_optax as ao
from examples.mechanisms import MOMENTUM_RULES, SIGMA_RULES, freeze


class Settings(Protocol):
    """The part of `finetune.Config` that is read here."""

    optimizer: str
    learning_rate: float
    momentum: float
    sigma: float
    weight_decay: float
    mode: str
    momentum_rule: str
    sigma_rule: str
    lr_bounds: tuple[float, float]
    mu_bounds: tuple[float, float]
    sigma_bounds: tuple[float, float]
    ema_decay: float
    freeze_threshold: float
    freeze_relative_to: str
    scan_layers: bool
    control: bool
    average: bool
    recovery: bool
    seed: int


def blocks(params: Any) -> Any:
    """What freezes as one: a block, of a scan too, each embedding, the last norm."""
    scanned = "ln_1" in params["h"]
    return ao.block_labels(params, depth=1 if scanned else None)


def is_kernel(params: Any) -> Any:
    """True for the matrices of the blocks, which decay and which Muon may turn.

    A bare number has no path: the loop measures on one what a momentum does to a step.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: bool(path) and path[-1].key == "kernel", params
    )


def muon_axes(params: Any) -> Any:
    """Kernels are [..., in, out]; what is no kernel goes to Adam."""
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
    return jax.tree.map(lambda yes: axes if yes else None, is_kernel(params))


def alone(config: Settings) -> optax.GradientTransformationExtraArgs:
    """The chosen optimizer at its constant rate, without the loop."""
    rate, momentum, decay = config.learning_rate, config.momentum, config.weight_decay
    tx = {
        "sgd": lambda: optax.sgd(rate, momentum),
        "adamw": lambda: optax.adamw(
            rate, momentum, weight_decay=decay, mask=is_kernel
        ),
        "muon": lambda: optax.contrib.muon(
            rate,
            beta=momentum,
            weight_decay=decay,
            muon_weight_dimension_numbers=muon_axes,
        ),
    }[config.optimizer]()
    return optax.with_extra_args_support(tx)


def make_optimizer(
    config: Settings, params: Any, total_steps: int | None
) -> optax.GradientTransformationExtraArgs:
    """The controller around the chosen optimizer; ``params`` may be abstract."""
    if not config.control:
        return alone(config)
    stacked = ("h",) if config.scan_layers else ()
    options = {
        "mode": config.mode,
        "momentum_rule": MOMENTUM_RULES[config.momentum_rule](),
        "sigma": config.sigma,
        "sigma_rule": SIGMA_RULES[config.sigma_rule](),
        "lr_bounds": config.lr_bounds,
        "mu_bounds": config.mu_bounds,
        "sigma_bounds": config.sigma_bounds,
        "freeze": freeze(
            config,
            hysteresis=1.1,  # from one block to another norms differ by a tenth or two
            groups=blocks(params),
            stacked=stacked,
            never="ln_f",  # it is small, so always quiet, and saves nothing
        ),
        "total_steps": total_steps,
        "average": config.average,
        "recovery": config.recovery,
        "ema_decay": config.ema_decay,
        "seed": config.seed,
    }
    rate, momentum, decay = config.learning_rate, config.momentum, config.weight_decay
    if config.optimizer == "sgd":
        return ao.adaptive_sgd(rate, momentum, **options)
    if config.optimizer == "adamw":
        return ao.adaptive_adamw(
            rate, momentum, weight_decay=decay, mask=is_kernel, **options
        )
    muon = functools.partial(
        optax.contrib.muon,
        weight_decay=decay,
        muon_weight_dimension_numbers=muon_axes,
    )
    return ao.adaptive_scheduler(
        muon, rate, momentum=momentum, momentum_arg="beta", **options
    )
