"""Protocol (e), cost: what a step, the state and a compilation take over plain Adam.

    python -m benchmarks cost                     # everything, in some nine minutes
    python -m benchmarks cost --devices 8         # on a mesh: benchmarks/devices.py
    python -m benchmarks cost --workload mlp --repeats 31 --peer prodigy mechanic

Time is the median of paired ratios with its quartiles (see `timing`). The plain
optimizer stands in the table a second time, as its own twin: the distance of that row
from 1 is the noise. State is what `jax.eval_shape` says, as a share of the parameters'
bytes, above plain Adam's own (a peer that replaces Adam may need less). Compilation is
that of one MLP step, tracing included.

- ``mlp``: 64-64-10, batch 32, 200 steps in one `jax.lax.scan`.
- ``gpt``: 5 million parameters, 6 blocks, width 256, 128 tokens, batch 8; one jitted
  step with donated buffers, in a Python loop.
"""

import functools
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import adaptive_optax as ao
from benchmarks import markdown, models, peers, timing
from benchmarks.devices import cost_on
from benchmarks.peers.inner import OPTIMIZERS

INNER = OPTIMIZERS["adam"]
RATE = INNER.default_rate
HORIZON = 1000  # what a peer that knows the horizon is told
OUTPUT = Path(__file__).parent / "results" / "cost.json"

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "control law only": {"average": False, "recovery": False},
    "+ averaging": {"recovery": False},
    "+ recovery": {"average": False},
    "default (both)": {},
    "default + dither": {"sigma": 1e-3},
    "default + Rademacher dither": {
        "sigma": 1e-3,
        "dither_distribution": "rademacher",
    },
    "default + freezing": {"freeze_threshold": 1e-6},
}
"""Options of `adaptive_scheduler`, part by part."""

TWIN = "plain again"

# name: (model, steps of one timed call, calls timed together)
WORKLOADS: dict[str, tuple[Callable[[], models.Model], int, int]] = {
    "mlp": (models.mlp, 200, 1),
    "gpt": (functools.partial(models.gpt, models.GPT_5M), 1, 1),
}


def measure(
    workloads: Iterable[str] = ("mlp", "gpt"),
    names: Iterable[str] | None = None,
    *,
    configurations: Iterable[str] = tuple(CONFIGURATIONS),
    repeats: int = 7,
    compiles: int = 3,
) -> dict[str, Any]:
    """The costs, ready for JSON; see `table` for what is in it.

    Args:
      workloads: Names in `WORKLOADS`.
      names: Of peers; None takes all but ours, which ``configurations`` cover.
      configurations: Names in `CONFIGURATIONS`.
      repeats: Of the step times, at least 2.
      compiles: Repeats of the compilations, at least 2.

    Raises:
      ValueError: If a name is unknown or a number too small.
    """
    for name in workloads:
        if name not in WORKLOADS:
            raise ValueError(
                f"unknown workload {name!r}; known: {', '.join(WORKLOADS)}."
            )
    adam = INNER.factory
    plain = adam(RATE)
    if names is None:
        names = [name for name, peer in peers.PEERS.items() if not peer.ours]
    makers: dict[str, Callable[[], Any]] = {TWIN: lambda: adam(RATE)}
    for name in configurations:
        makers[name] = functools.partial(
            ao.adaptive_scheduler, adam, RATE, **CONFIGURATIONS[name]
        )
    for name in names:
        peer = peers.get(name)
        rate = jnp.float32(1.0 if peer.free else RATE)
        makers[name] = functools.partial(peer.make, adam, rate, HORIZON)
    report: dict[str, Any] = {
        "environment": timing.environment(),
        "optimizer": "adam",
        "repeats": repeats,
        "workloads": {},
    }
    for name in workloads:
        _say(f"{name}: {len(makers)} configurations")
        make_model, steps, calls = WORKLOADS[name]
        report["workloads"][name] = _steps(
            make_model(), steps, calls, plain, makers, repeats
        )
    _say("compilation")
    report["compilation"] = _compilation(plain, makers, compiles)
    return report


def state_bytes(tx: Any, params: Any) -> int:
    """Bytes of the optimizer's state; nothing is allocated."""
    return timing.nbytes(jax.eval_shape(tx.init, params))


def _steps(
    model: models.Model,
    steps: int,
    calls: int,
    plain: Any,
    makers: dict[str, Callable[[], Any]],
    repeats: int,
) -> dict[str, Any]:
    """Step time and state of every configuration on one model."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = model.batch(jax.random.key(1))
    size = timing.nbytes(params)
    plain_state = state_bytes(plain, params)

    def build(tx: Any) -> tuple[dict[str, Any], timing.Timed]:
        state = state_bytes(tx, params)
        step = timing.stepper(tx, model.loss)
        step = step if steps == 1 else timing.scanned(step, steps)
        carry = timing.start(tx, model)
        return {
            "state_bytes": state,
            "extra_state_over_parameters": (state - plain_state) / size,
        }, timing.runner(step, carry, batch, calls=calls)

    rows, seconds = timing.compare(
        "step_time_over_plain", plain, makers, build, repeats
    )
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "parameter_bytes": size,
        "plain_state_bytes": plain_state,
        "plain_step_seconds": seconds / steps,
        "rows": rows,
    }


def _compilation(
    plain: Any, makers: dict[str, Callable[[], Any]], repeats: int
) -> dict[str, Any]:
    """Compile times of one MLP step."""
    model = models.mlp()

    def build(tx: Any) -> tuple[dict[str, Any], timing.Timed]:
        return {}, timing.compiler(tx, model)

    rows, seconds = timing.compare(
        "compile_time_over_plain", plain, makers, build, repeats
    )
    return {
        "model": "mlp",
        "repeats": repeats,
        "plain_compile_seconds": seconds,
        "rows": rows,
    }


def table(report: dict[str, Any]) -> str:
    """The costs as Markdown, one row a configuration."""
    workloads, compilation = report["workloads"], report["compilation"]
    device = report["environment"]
    titles, lines = ["configuration"], []
    for name, found in workloads.items():
        titles += [f"{name}: step time / plain", f"{name}: extra state / parameters"]
        lines.append(
            f"{name}: {found['parameters'] / 1e6:.3g} M parameters, plain Adam "
            f"{found['plain_step_seconds'] * 1e6:.0f} us a step, "
            f"{report['repeats']} repeats."
        )
    titles.append("compile time / plain")
    lines += [
        f"Plain Adam's MLP step compiles in {compilation['plain_compile_seconds']:.2f} "
        f"s. jax {device['jax']}, optax {device['optax']}, {device['device']}. "
        "Medians (quartiles). State is beyond plain Adam's: a peer that replaces Adam "
        "may need less.",
        "",
    ]
    rows = []
    for name, compiled in compilation["rows"].items():
        cells = [name]
        for found in workloads.values():
            row = found["rows"][name]
            extra = row.get("extra_state_over_parameters")
            cells += [
                _ratio(row, "step_time_over_plain"),
                "–" if row["error"] else f"{extra:+.1%}",
            ]
        rows.append([*cells, _ratio(compiled, "compile_time_over_plain")])
    return "\n".join([*lines, markdown.table(titles, rows)])


def _ratio(row: dict[str, Any], key: str) -> str:
    """Its median and quartiles, or what was raised."""
    if row["error"]:
        return "raised " + row["error"].replace("|", "\\|")
    return "{median:.3f} ({low:.3f}–{high:.3f})".format(**row[key])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cost(
    *,
    workload: tuple[str, ...] = tuple(WORKLOADS),
    repeats: int = 7,
    peer: tuple[str, ...] | None = None,
    output: Path = OUTPUT,
    devices: int = 1,
    batch: int = 64,
    row: tuple[str, ...] | None = None,
) -> None:
    """Measure what a step, the state and a compilation cost; write the JSON.

    Args:
      workload: Names in `WORKLOADS`.
      repeats: Of the step times.
      peer: Which; all but ours by default.
      output: File to write.
      devices: More than 1: the step of the GPT on so many virtual devices, and nothing
        else of this; see `benchmarks.devices`.
      batch: Sequences of that step, over all devices.
      row: Of the table of that step; with a choice it is printed and not written.
    """
    if devices > 1:
        cost_on(devices, batch, repeats, row)
        return
    report = measure(workload, peer, repeats=repeats)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
