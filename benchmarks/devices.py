"""What a step costs over plain AdamW's on a mesh of virtual devices.

    python -m benchmarks cost --devices 8              # AdamW on the 5 M GPT
    python -m benchmarks cost --devices 8 --batch 8    # one sequence a device
    python -m benchmarks cost --devices 8 --row default --repeats 11

Times are paired ratios in one process (see `timing`). Virtual devices share the cores
of one machine, so all that each device repeats (with whole parameters on each, the
optimizer's work too) counts as often as there are devices. Three ways to train:

- ``jit, data``: the batch is spread, parameters are whole on each device;
- ``jit, fully sharded``: parameters and state are spread too;
- ``shard_map``: as the first by hand, `axis_name` reduces, replicas are compared.

The check for lost parameters is measured by itself beside plain AdamW: once a step, and
behind a condition that is never met. In a run it is made in some one of twenty steps.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from adaptive_optax.supervise import lost
from benchmarks import markdown, models, timing

RATE = 3e-4
KEY = "step_time_over_plain"
FREEZES = {"freeze_threshold": 1e-6}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "control law only": {"average": False, "recovery": False},
    "default": {},
    "default + freezing mask": FREEZES,
}
COMPARED = "default + freezing mask + check_replicas"
WAYS = ("jit, data", "jit, fully sharded", "shard_map")
OUTPUT = Path(__file__).parent / "results" / "devices.md"


def looks_for_lost(looks: bool) -> optax.GradientTransformation:
    """Plain AdamW that counts the lost parameters beside, or might and does not."""
    inner = optax.adamw(RATE)

    def init(params: Any) -> Any:
        constant = lost.nonfinite(params)
        return inner.init(params), constant, jnp.asarray(looks), constant

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        before, constant, look, _ = state
        updates, after = inner.update(updates, before, params)
        found = lost.entries(params, constant, look)
        return updates, (after, constant, look, found)

    return optax.GradientTransformation(init, update)


def plain() -> optax.GradientTransformation:
    """The optimizer that all is measured by."""
    return optax.adamw(RATE)


def makers(way: str) -> dict[str, Callable[[], Any]]:
    """What is measured that way."""
    by_hand = {"axis_name": "data"} if way == "shard_map" else {}
    configurations = dict(CONFIGURATIONS)
    if by_hand:
        configurations[COMPARED] = FREEZES | {"check_replicas": 100}
    ours = {
        name: lambda options=options: ao.adaptive_scheduler(
            optax.adamw, RATE, **options, **by_hand
        )
        for name, options in configurations.items()
    }
    return {
        "plain again": plain,
        **ours,
        "AdamW, lost parameters counted": lambda: looks_for_lost(True),
        "AdamW, the same if asked for": lambda: looks_for_lost(False),
    }


def stepper(tx: Any, model: models.Model, way: str, mesh: Any) -> tuple[Any, Any]:
    """A jitted step that gives its carry away, and where the carry lies."""
    params = jax.eval_shape(model.init, jax.random.key(0))

    def sharding(leaf: Any) -> NamedSharding:
        spread = way == "jit, fully sharded"
        whole = [extent % mesh.size == 0 for extent in leaf.shape]
        axis = whole.index(True) if spread and True in whole else None
        return NamedSharding(mesh, P() if axis is None else P(*[None] * axis, "data"))

    places = jax.tree.map(sharding, params)
    where = places, ao.state_shardings(tx, params, places)
    step = timing.stepper(tx, model.loss)
    if way == "shard_map":
        step = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(P(), P(), P("data")),
            out_specs=P(),
            check_vma=False,
        )
    return jax.jit(step, donate_argnums=(0, 1), out_shardings=where), where


def measure(
    model: models.Model,
    devices: int,
    *,
    ways: Iterable[str] = WAYS,
    names: Iterable[str] | None = None,
    repeats: int = 7,
) -> dict[str, tuple[dict[str, Any], float]]:
    """For each way the rows of `timing.compare`, and plain AdamW's seconds.

    Args:
      model: What is trained; its batch must divide by the devices.
      devices: How many of those that there are.
      ways: Which of `WAYS`.
      names: Which of `makers`; None takes all.
      repeats: Of each time, at least 2.
    """
    mesh = jax.make_mesh(
        (devices,),
        ("data",),
        axis_types=(AxisType.Auto,),
        devices=jax.devices()[:devices],
    )
    rows = NamedSharding(mesh, P("data"))
    batch = jax.device_put(model.batch(jax.random.key(1)), rows)
    found = {}
    for way in ways:

        def build(tx: Any, way: str = way) -> tuple[dict[str, Any], timing.Timed]:
            known = isinstance(tx, optax.GradientTransformationExtraArgs)
            if way == "shard_map" and not known:  # which does not reduce by itself
                tx = optax.chain(_mean(), tx)
            step, where = stepper(tx, model, way, mesh)
            carry = jax.device_put(timing.start(tx, model), where)
            return {}, timing.caller(step, carry, batch, calls=1)

        made = makers(way)
        chosen = {name: made[name] for name in names or made if name in made}
        print(f"{way}: {len(chosen)} programs", file=sys.stderr, flush=True)
        found[way] = timing.compare(KEY, plain(), chosen, build, repeats)
        print(table({way: found[way]}), file=sys.stderr, flush=True)
    return found


def _mean() -> optax.GradientTransformation:
    """Gradients averaged over the devices, as plain training by hand does."""
    return optax.stateless(lambda updates, _: jax.lax.pmean(updates, "data"))


def table(found: dict[str, tuple[dict[str, Any], float]]) -> str:
    """The ratios, a column for each way."""
    names = dict.fromkeys(name for rows, _ in found.values() for name in rows)

    def cell(rows: dict[str, Any], name: str) -> str:
        row = rows.get(name)
        if row is None:
            return ""
        if row["error"]:
            return "raised " + row["error"].replace("|", "\\|")
        return "{median:.3f} ({low:.3f}–{high:.3f})".format(**row[KEY])

    body = [[name, *(cell(rows, name) for rows, _ in found.values())] for name in names]
    times = [
        "plain AdamW, ms",
        *(f"{1e3 * seconds:.0f}" for _, seconds in found.values()),
    ]
    return markdown.table(["over plain AdamW", *found], [*body, times])


def cost_on(
    devices: int,
    batch: int,
    repeats: int,
    rows: Iterable[str] | None = None,
    output: Path = OUTPUT,
) -> None:
    """Measure and print the table; write it if it has all its rows.

    Raises:
      ValueError: If the batch does not divide by the devices, or a row is unknown.
    """
    known = dict.fromkeys(name for way in WAYS for name in makers(way))
    if unknown := [name for name in rows or () if name not in known]:
        raise ValueError(f"unknown row {unknown[0]!r}; known: {', '.join(known)}.")
    if batch % devices:
        raise ValueError(
            f"a batch of {batch} does not spread over {devices} devices; try "
            f"--batch {8 * devices}."
        )
    jax.config.update("jax_num_cpu_devices", devices)
    model = models.gpt(models.GPT_5M._replace(batch=batch))
    found = measure(model, devices, names=rows, repeats=repeats)
    text, made = table(found), timing.environment()
    print(text)
    if rows is not None:
        return
    head = (
        f"# The cost of a step on {devices} virtual devices\n\n`python -m benchmarks "
        f"cost --devices {devices} --batch {batch} --repeats {repeats}`: a GPT of 5 M "
        f"parameters, {batch} x {models.GPT_5M.tokens} tokens, JAX {made['jax']}, "
        f"{made['device']}. Medians of paired ratios (quartiles).\n\n"
    )
    output.write_text(f"{head}{text}\n")
