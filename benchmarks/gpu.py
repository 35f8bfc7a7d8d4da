"""What only a GPU shows, in one command of under eight minutes, as JSON.

    python -m benchmarks.gpu                       # one GPU with 24 GB
    python -m benchmarks.gpu --preset nano --steps 5 --repeats 2 --allow-cpu

- ``overhead``: step time over plain Adam of each configuration of ours, on a GPT of
  GPT-2-small's size (bfloat16 compute, float32 parameters, rematerialised layer scan).
- ``training``: that GPT on the text of the Python manual, AdamW at a constant rate
  beside `adaptive_scheduler` around the same; both keep an average of the parameters.
- ``freezing``: step time where nothing, the lower half and everything is frozen, with a
  mask on gradients and updates and with `frozen_value_and_grad`.
- ``dither``: step time with noise over the same step with sigma = 0, by scale.
- ``overhead_5m``: as ``overhead``, on 5 million parameters.

Sections run in this order. One with no time left is recorded as skipped, one that
raises with what it raised. The file is written after each.
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__" and not __package__:  # python benchmarks/gpu.py
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import jax
import jax.numpy as jnp
import optax

import adaptive_optax as ao
from benchmarks import language, models, timing
from benchmarks.budget import Budget, Builds, compare
from benchmarks.cost import CONFIGURATIONS
from benchmarks.freezing.step import masking_step, skipping_step

RATE = 3e-4
ADAM = optax.adam(RATE)
OUTPUT = Path(__file__).parent / "results" / "gpu.json"


class Preset(NamedTuple):
    """What is measured."""

    large: models.GPTConfig
    small: models.GPTConfig
    configurations: tuple[str, ...] = tuple(CONFIGURATIONS)
    scales: tuple[str, ...] = ("param_rms", "update_rms", "isotropic")


PRESETS = {
    "gpt2-small": Preset(models.GPT2_SMALL, models.GPT_5M),
    "nano": Preset(  # one of each: what takes time there is compilation
        models.NANO,
        models.NANO._replace(scan=False, dtype=jnp.float32),
        ("control law only",),
        ("param_rms",),
    ),
}


@functools.cache
def ours(name: str) -> Any:
    """The configuration of that name around Adam."""
    return ao.adaptive_scheduler(optax.adam, RATE, **CONFIGURATIONS[name])


@functools.cache  # JAX compiles the same function once
def step_of(tx: Any, config: models.GPTConfig) -> Callable[..., Any]:
    """The training step, the same function for the same arguments."""
    return timing.stepper(tx, models.gpt(config).loss)


def runs_of(optimizers: dict[str, Any], config: models.GPTConfig, calls: int) -> Builds:
    """A run of each optimizer's step, and another of the first as its own twin."""
    model = models.gpt(config)
    batch = model.batch(jax.random.key(1))

    def run(tx: Any) -> timing.Timed:
        carry = timing.start(tx, model)
        return timing.runner(step_of(tx, config), carry, batch, calls=calls)

    (first, plain), *others = optimizers.items()
    pairs = [(first, plain), (f"{first} again", plain), *others]
    return {name: functools.partial(run, tx) for name, tx in pairs}


def overhead(
    config: models.GPTConfig,
    configurations: tuple[str, ...],
    budget: Budget,
    repeats: int,
    calls: int,
) -> dict[str, Any]:
    """Each configuration over plain Adam."""
    optimizers = {"plain": ADAM} | {name: ours(name) for name in configurations}
    builds = runs_of(optimizers, config, calls)
    return compare(f"overhead, width {config.width}", builds, budget, repeats)


def dither(
    config: models.GPTConfig,
    scales: tuple[str, ...],
    budget: Budget,
    repeats: int,
    calls: int,
) -> dict[str, Any]:
    """Each scale of the fused dither over the same scheduler without."""
    law = "control law only"
    options = CONFIGURATIONS[law] | {"sigma": 1e-3}
    optimizers = {"sigma = 0": ours(law)}
    for scale in scales:
        optimizers[scale] = ao.adaptive_scheduler(
            optax.adam, RATE, dither_scale=scale, **options
        )
    return compare("dither", runs_of(optimizers, config, calls), budget, repeats)


def freezing(
    config: models.GPTConfig, budget: Budget, repeats: int, calls: int
) -> dict[str, Any]:
    """Nothing, the lower half and everything frozen, by mask and by skipping."""
    model = models.gpt(config)
    batch = model.batch(jax.random.key(1))
    shapes = jax.eval_shape(model.init, jax.random.key(0))

    def frozen_below(block: int) -> dict[str, Any]:
        """Embeddings and the blocks below ``block``; the last scale only with all."""
        layers = jnp.arange(config.blocks) < block
        return {
            "words": jnp.asarray(block > 0),
            "positions": jnp.asarray(block > 0),
            "blocks": dict.fromkeys(shapes["blocks"], layers),
            "scale": jnp.asarray(block == config.blocks),
        }

    steps = {
        "mask": masking_step(ADAM, model.loss),
        "skip": skipping_step(ADAM, model.loss, lambda path: path.split("/")[0]),
    }

    def run(step: Callable[..., Any], *rest: Any) -> timing.Timed:
        carry = timing.start(ADAM, model)
        return timing.runner(step, carry, batch, *rest, calls=calls)

    builds: Builds = {"plain": functools.partial(run, step_of(ADAM, config))}
    # One step a way: the frozen share is an argument.
    for way, step in steps.items():
        for share, block in (
            ("nothing", 0),
            ("half", config.blocks // 2),
            ("all", config.blocks),
        ):
            builds[f"{way}, {share} frozen"] = functools.partial(
                run, step, frozen_below(block)
            )
    return compare("freezing", builds, budget, repeats)


def training(config: models.GPTConfig, budget: Budget, steps: int) -> dict[str, Any]:
    """A constant rate and ours, from the same parameters on the same batches."""
    runs = {
        "constant": lambda: optax.chain(optax.adamw(RATE), ao.average_params()),
        "nudge": lambda: ao.adaptive_scheduler(optax.adamw, RATE),
    }
    rows = {}
    for name, make in runs.items():
        rows[name] = budget.piece(
            "training",
            lambda make=make: language.train(config, make(), steps, budget.left),
        )
    return {"learning_rate": RATE, "rows": rows}


def main(argv: list[str] | None = None) -> int:
    """Run the sections and write the JSON; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--preset", choices=PRESETS, default="gpt2-small")
    parser.add_argument("--steps", type=int, default=200, help="of the training run")
    parser.add_argument("--repeats", type=int, default=7, help="of each step time")
    parser.add_argument("--calls", type=int, default=3, help="steps timed together")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds in all")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--allow-cpu", action="store_true", help="to try it out")
    options = parser.parse_args(argv)
    if jax.default_backend() != "gpu" and not options.allow_cpu:
        print(
            f"benchmarks/gpu.py needs a GPU, and JAX found only {jax.devices()}; on a "
            "machine with one, install jax[cuda13], or try it out with --allow-cpu.",
            file=sys.stderr,
        )
        return 2
    large, small, configurations, scales = PRESETS[options.preset]
    budget = Budget(options.budget)
    times = (budget, options.repeats, options.calls)
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "overhead": lambda: overhead(large, configurations, *times),
        "training": lambda: training(large, budget, options.steps),
        "freezing": lambda: freezing(large, *times),
        "dither": lambda: dither(large, scales, *times),
        "overhead_5m": lambda: overhead(small, configurations, *times),
    }
    report: dict[str, Any] = {
        "environment": timing.environment(),
        "options": {k: str(v) for k, v in vars(options).items()},
        "sections": {},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name, section in sections.items():
        found = report["sections"][name] = budget.piece(name, section)
        memory = jax.devices()[0].memory_stats() or {}
        report["peak_bytes"] = memory.get("peak_bytes_in_use")
        options.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
        outcome = found.get("skipped") or found.get("error") or f"{found['seconds']} s"
        print(f"{name}: {outcome}", flush=True)
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
