"""The gains of every step of 32 runs, to set one version beside another.

    python -m benchmarks replay --write FILE      before a change
    python -m benchmarks replay --against FILE    after it

A change that should alter no decision of the law leaves every gain as it was, up to
rounding. Runs are chaotic: if rounding moves a decision, all later steps differ. So the
table names the first step at which each run differs, and what happened there. A file is
valid for one machine and one version of JAX.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import adaptive_optax as ao
from benchmarks import families, protocol
from benchmarks.contract import Problem
from benchmarks.peers.inner import OPTIMIZERS

STEPS = 320
RECORDED = ("learning_rate", "momentum", "sigma", "frozen_fraction", "value")
SAME = 1e-6
"""Relative difference up to which two recordings count as the same."""

Fault = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
"""(i32[] step, f32[] loss, gradients) -> what reaches the optimizer."""


class Run(NamedTuple):
    """One recorded run."""

    family: str  # its first development draw is trained
    optimizer: str  # a key of `OPTIMIZERS`
    rate: float  # the base rate
    options: dict[str, Any] = {}  # of `adaptive_scheduler`
    fault: Fault | None = None
    schedule: Callable[[float], Any] | None = None  # made of the rate


def nonfinite_losses(at: range) -> Fault:
    """The loss is not finite at these steps."""

    def fault(step, value, grads):
        return jnp.where(_in(step, at), jnp.inf, value), grads

    return fault


def nonfinite_gradients(at: range) -> Fault:
    """Every gradient is not finite at these steps."""

    def fault(step, value, grads):
        bad = _in(step, at)
        return value, jax.tree.map(lambda g: jnp.where(bad, jnp.nan, g), grads)

    return fault


def scaled(at: range, size: float) -> Fault:
    """Loss and gradients are so many times larger at these steps."""

    def fault(step, value, grads):
        factor = jnp.where(_in(step, at), size, 1.0)
        return value * factor, jax.tree.map(
            lambda g: (g * factor).astype(g.dtype), grads
        )

    return fault


def _in(step: jax.Array, at: range) -> jax.Array:
    return (step >= at.start) & (step < at.stop) & ((step - at.start) % at.step == 0)


def _warm_up(rate: float) -> Any:
    return optax.warmup_constant_schedule(0.0, rate, 60)


def _cosine(rate: float) -> Any:
    return optax.cosine_decay_schedule(rate, STEPS)


_FREEZE = ao.Freeze(0.5, relative_to="initial", warmup=30, min_dwell=10)
_ALL = {
    "momentum": 0.9,
    "momentum_rule": ao.rules.alignment(),
    "sigma": 1e-3,
    "rule": ao.blend(ao.rules.trend(), ao.rules.alignment(), credit=10.0),
    "slew": 0.3,
}
RUNS: dict[str, Run] = {
    "quadratic": Run("quadratic", "sgd", 1e-2),
    "quadratic, too high": Run("quadratic", "sgd", 1.0),
    "quadratic, search from far below": Run(
        "quadratic", "sgd", 1e-5, {"mode": "search"}
    ),
    "waves, adam": Run("waves", "adam", 1e-2),
    "logistic, lion": Run("logistic", "lion", 1e-3),
    "logistic, too high": Run("logistic", "adam", 30.0),
    "digits": Run("digits", "adam", 2e-3),
    "digits, search, far below": Run("digits", "adam", 2e-5, {"mode": "search"}),
    "digits, x100": Run("digits", "adam", 0.2),
    "digits, safe, x100": Run("digits", "adam", 0.2, {"mode": "safe"}),
    "digits, sgd": Run("digits", "sgd", 5e-2),
    "digits, muon": Run("digits", "muon", 2e-2),
    "digits, known horizon": Run("digits", "adam", 2e-3, {"total_steps": STEPS}),
    "digits, warm-up of its own": Run("digits", "adam", 2e-3, schedule=_warm_up),
    "digits, cosine": Run("digits", "adam", 2e-2, schedule=_cosine),
    "digits, freezing": Run("digits", "adam", 2e-3, {"freeze": _FREEZE}),
    "digits, dither": Run("digits", "adam", 2e-3, {"sigma": 1e-3}),
    "digits, every gain": Run("digits", "adam", 2e-3, _ALL),
    "digits, literal": Run("digits", "sgd", 5e-2, {"rule": ao.rules.literal()}),
    "digits, no recovery": Run(
        "digits", "adam", 2e-3, {"recovery": False, "average": False}
    ),
    "digits, infinite losses": Run(
        "digits", "adam", 2e-3, fault=nonfinite_losses(range(150, 156))
    ),
    "digits, one in ten lost": Run(
        "digits", "adam", 2e-3, fault=nonfinite_gradients(range(5, 320, 10))
    ),
    "digits, ten gradients lost": Run(
        "digits", "sgd", 5e-2, fault=nonfinite_gradients(range(30, 40))
    ),
    "digits, spikes": Run("digits", "adam", 2e-3, fault=scaled(range(200, 212), 1e3)),
    "factorization": Run("factorization", "adam", 3e-2),
    "transformer": Run("transformer", "adamw", 1e-2),
    "waves, an opposed start": Run("waves", "sgd", 3e-1),
    "shift": Run("shift", "adagrad", 1e-1),
    "contrastive": Run("contrastive", "adam", 1e-2),
    "bandit, reward": Run("bandit", "adam", 1e-1),
    "bandit, reward, x100": Run("bandit", "adam", 10.0, {"mode": "search"}),
    "drift": Run("drift", "adagrad", 1e-1),
}


def record(run: Run) -> dict[str, np.ndarray]:
    """f32[STEPS] of every recorded name."""
    problem = families.get(f"{run.family}@{families.DEVELOPMENT}.0").problem
    inner = OPTIMIZERS[run.optimizer].factory
    rate = run.schedule(run.rate) if run.schedule else run.rate
    tx = ao.adaptive_scheduler(inner, rate, **run.options)
    path = jax.jit(functools.partial(_path, problem, tx, run.fault))()
    return {name: np.asarray(x) for name, x in path.items()}


def _path(problem: Problem, tx: Any, fault: Fault | None) -> dict[str, jax.Array]:
    init_key, batch_key, loss_key = jax.random.split(jax.random.key(0), 3)
    world = problem.world(jax.random.key(0))

    def step(carry: Any, t: jax.Array):
        params, state = carry
        (value, reward), grads = jax.value_and_grad(problem.loss, has_aux=True)(
            params, problem.batch(batch_key, t, world), jax.random.fold_in(loss_key, t)
        )
        if fault is not None:
            value, grads = fault(t, value, grads)
        fed = {"value": value} if reward is None else {"value": value, "reward": reward}
        updates, state = tx.update(grads, state, params, **fed)
        seen = {**ao.snapshot(state), "value": value}
        return (optax.apply_updates(params, updates), state), {
            name: seen[name] for name in RECORDED
        }

    params = problem.init(init_key, world)
    _, path = jax.lax.scan(step, (params, tx.init(params)), jnp.arange(STEPS))
    return path


def write(file: Path, names: tuple[str, ...] = ()) -> Iterator[str]:
    """Record the runs into an ``.npz``; a line for each as it is done."""
    paths: dict[str, np.ndarray] = {}
    for name in names or RUNS:
        path = record(RUNS[name])
        paths |= {f"{name}|{key}": x for key, x in path.items()}
        ends = path["learning_rate"][[0, -1]]
        yield f"{name}: rate {ends[0]:.3g} to {ends[1]:.3g}"
    np.savez_compressed(file, **paths)  # type: ignore[arg-type]


def against(file: Path, names: tuple[str, ...] = ()) -> Iterator[str]:
    """Record the runs anew and say where each parts from the file."""
    before = np.load(file)
    same = total = 0
    yield "| run | largest difference of a gain | parts at step | there |"
    yield "|---|---|---|---|"
    for name in names or RUNS:
        if f"{name}|value" not in before:
            yield f"| {name} | not in {file.name} | | |"
            continue
        path = record(RUNS[name])
        gaps = {
            key: _gap(x, before[f"{name}|{key}"])
            for key, x in path.items()
            if key != "value"
        }
        worst = max(float(gap.max()) for gap in gaps.values())
        total, same = total + 1, same + (worst <= SAME)
        parts = [
            (int(np.argmax(g > SAME)), k) for k, g in gaps.items() if g.max() > SAME
        ]
        if parts:
            step, key = min(parts)
            old, new = before[f"{name}|{key}"][step], path[key][step]
            yield f"| {name} | {worst:.1e} | {step} | {key} {old:.4g} -> {new:.4g} |"
        else:
            yield f"| {name} | {worst:.1e} | - | |"
    yield f"\n{same} of {total} runs are the same to {SAME:g}"


def _gap(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Relative difference at every step, 0 where both are the same or both NaN."""
    size = np.maximum(np.maximum(np.abs(now), np.abs(before)), 1e-30)
    gap = np.abs(now - before) / size
    return np.where((now == before) | (np.isnan(now) & np.isnan(before)), 0.0, gap)


def replay(
    *,
    write_to: Annotated[Path | None, tyro.conf.arg(name="write")] = None,
    against_file: Annotated[Path | None, tyro.conf.arg(name="against")] = None,
    run: tuple[str, ...] = (),
) -> None:
    """Record the gains of 32 runs, or set them beside a recording.

    Args:
      write_to: File to record into, an ``.npz``.
      against_file: File to compare with.
      run: Only these, by their names in `RUNS`.
    """
    if (write_to is None) == (against_file is None):
        raise ValueError("give --write FILE or --against FILE, one of them.")
    protocol.known(run, tuple(RUNS), "run")
    lines = write(write_to, run) if write_to else against(against_file, run)
    for line in lines:
        print(line, flush=True)
