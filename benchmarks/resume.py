"""Runs that are cut, saved, read back and resumed, beside the run that nothing cut.

    python -m benchmarks resume

A small classifier is trained with everything on, and with bad batches on purpose. It is
cut where the state is in the middle of something; these steps are found in the run
itself. At each cut the train state goes through every format, and the rest of the run
is made again: on the mesh that it was saved on, and on every other one. Meshes are of
eight virtual devices.
"""

import functools
import io
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import serialization
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from benchmarks import markdown, models, timing

OUTPUT = Path(__file__).parent / "results" / "resume.md"
STEPS = 200
BAD = (90, 91, 92, *range(110, 117))  # steps whose batch is a thousand times too large
Carry = tuple[Any, Any]  # parameters and state


@functools.cache  # and not at import: it would start JAX before there are 8 devices
def optimizer() -> optax.GradientTransformationExtraArgs:
    """Everything on."""
    return ao.adaptive_scheduler(
        optax.adamw,
        1e-2,
        sigma=1e-3,
        momentum=0.9,
        momentum_rule=ao.rules.alignment(),
        total_steps=STEPS,
        freeze=ao.Freeze(0.85, relative_to="initial", warmup=20, min_dwell=10),
    )


def _decays(state: Any) -> bool:
    return bool(state.sensor.signal_count > 0.7 * STEPS)


CUTS: dict[str, Callable[[Any], Any]] = {
    "in the warm-up": lambda s: s.sensor.signal_count < 20,
    "batches are skipped": lambda s: s.recovery.judges.trial.strikes > 1,
    "a restore is under way": lambda s: s.recovery.judges.trial.restoring > 0,
    "a part is frozen": lambda s: (s.frozen_fraction > 0) & ~_decays(s),
    "the rate decays": _decays,
}
"""What the state is in the middle of, and how that shows."""

# Axes of the mesh, and which axis of it each axis of a parameter is spread over.
MESHES: dict[str, tuple[tuple[int, ...], tuple[str | None, ...]]] = {
    "1 device": ((1,), ()),
    "8, data": ((8,), ()),
    "8, fully sharded": ((8,), ("data",)),
    "4x2": ((4, 2), ("data", "model")),
}


class Place(NamedTuple):
    """One mesh: where things lie on it, and how a step is made there."""

    shardings: Carry
    batches: Any  # of all steps
    step: Callable[..., Carry]  # (params, state, batches, step)

    def put(self, carry: Carry) -> Carry:
        """A train state, spread as this mesh has it."""
        return jax.device_put(carry, self.shardings)

    def run(self, carry: Carry, begin: int, end: int) -> list[Carry]:
        """What there is after every step."""
        after = []
        for step in range(begin, end):
            # Steps in flight on more devices than cores wait for each other for ever.
            carry = jax.block_until_ready(self.step(*carry, self.batches, step))
            after.append(carry)
        return after


def batches(steps: int) -> tuple[Any, Any]:
    """Of all steps: what a linear teacher says, a tenth of the labels at random."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps, 32, 64))
    x[[step for step in BAD if step < steps]] *= 1e3
    labels = np.argmax(x @ rng.normal(size=(64, 10)), -1)
    at_random = rng.random(labels.shape) < 0.1
    labels = np.where(at_random, rng.integers(0, 10, labels.shape), labels)
    return x.astype(np.float32), labels.astype(np.int32)


@functools.cache
def place(name: str, steps: int) -> Place:
    """The mesh of that name."""
    sizes, spread = MESHES[name]
    axes = ("data", "model")[: len(sizes)]
    mesh = jax.make_mesh(
        sizes,
        axes,
        axis_types=(AxisType.Auto,) * len(sizes),
        devices=jax.devices()[: int(np.prod(sizes))],
    )

    def sharding(leaf: Any) -> NamedSharding:
        over = [
            axis if axis and extent % mesh.shape[axis] == 0 else None
            for extent, axis in zip(leaf.shape, spread, strict=False)
        ]
        return NamedSharding(mesh, P(*over))

    params = jax.eval_shape(models.mlp().init, jax.random.key(0))
    places = jax.tree.map(sharding, params)
    shardings = places, ao.state_shardings(optimizer(), params, places)
    one_step = timing.stepper(optimizer(), models.mlp().loss)

    def step(params: Any, state: Any, batches: Any, count: jax.Array) -> Carry:
        return one_step(params, state, jax.tree.map(lambda x: x[count], batches))

    return Place(
        shardings=shardings,
        batches=jax.device_put(batches(steps), NamedSharding(mesh, P(None, "data"))),
        step=jax.jit(step, out_shardings=shardings),
    )


def start() -> Carry:
    """The first train state."""
    params = models.mlp().init(jax.random.key(0))
    return params, optimizer().init(params)


def npz(carry: Carry, onto: Place) -> Carry:
    """`state_arrays` into NumPy's own file, without pickles; `load_state` reads it."""
    file = io.BytesIO()
    arrays = ao.state_arrays({"params": carry[0], "state": carry[1]})
    np.savez(file, **jax.tree.map(np.asarray, arrays))
    file.seek(0)
    held = dict(np.load(file, allow_pickle=False))
    like = jax.eval_shape(start)[0]
    leaves = [held[f"params/{path}"] for path in ao.state_arrays(like)]
    params = jax.tree.unflatten(jax.tree.structure(like), leaves)
    own = {
        path.removeprefix("state/"): x
        for path, x in held.items()
        if path.startswith("state/")
    }
    return onto.put((params, ao.load_state(optimizer(), params, own)))


def msgpack(carry: Carry, onto: Place) -> Carry:
    """Flax's bytes, into the structure of a fresh start."""
    data = serialization.to_bytes(jax.device_get(carry))
    return onto.put(serialization.from_bytes(jax.eval_shape(start), data))


def orbax(carry: Carry, onto: Place) -> Carry:
    """Orbax' standard format, straight onto the devices."""
    like = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        jax.eval_shape(start),
        onto.shardings,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        ocp.StandardCheckpointer() as checkpointer,
    ):
        checkpointer.save(Path(folder) / "run", carry)
        checkpointer.wait_until_finished()
        return checkpointer.restore(Path(folder) / "run", like)


def memory(carry: Carry, onto: Place) -> Carry:
    """NumPy's arrays in memory: `jax.device_get`, and back."""
    return onto.put(jax.tree.map(np.array, jax.device_get(carry)))


FORMATS: dict[str, Callable[[Carry, Place], Carry]] = {
    "NPZ (`state_arrays`, `load_state`)": npz,
    "msgpack (`flax.serialization`)": msgpack,
    "Orbax (`StandardCheckpointer`)": orbax,
    "NumPy in memory (`jax.device_get`)": memory,
}


def cuts_of(history: list[Carry], wanted: Iterable[str]) -> dict[str, int]:
    """The steps behind each cut: the middle of those at which its condition holds.

    Raises:
      ValueError: If one never holds.
    """
    found = {}
    for name in wanted:
        steps = [i + 1 for i, (_, s) in enumerate(history[:-1]) if CUTS[name](s)]
        if not steps:
            raise ValueError(f"in this run it never was so: {name}.")
        found[name] = steps[len(steps) // 2]
    return found


def gap(one: Any, other: Any) -> float | None:
    """The largest difference of two trees, None where they are equal to the bit."""
    pairs = [
        (np.asarray(a), np.asarray(b))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    ]
    if all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs):
        return None
    return max(
        float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64))))
        for a, b in pairs
        if a.size
    )


def tables(
    *,
    cuts: Iterable[str] = tuple(CUTS),
    formats: Iterable[str] = tuple(FORMATS),
    meshes: Iterable[str] = tuple(MESHES),
    steps: int = STEPS,
) -> str:
    """Both tables, as Markdown; the arguments are names in those above."""
    whole = {
        name: (there := place(name, steps)).run(there.put(start()), 0, steps)
        for name in meshes
    }
    found = cuts_of(next(iter(whole.values())), cuts)

    def resumed(cut: int, form: str, saved: str, onto: str) -> Carry:
        there = place(onto, steps)
        carry = FORMATS[form](whole[saved][cut - 1], there)
        return there.run(carry, cut, steps)[-1]

    rows, equal = [], 0
    for name, cut in found.items():
        for form in formats:
            gaps = [gap(resumed(cut, form, m, m), whole[m][-1]) for m in meshes]
            equal += gaps.count(None)
            words = ["to the bit" if g is None else f"off by {g:.1e}" for g in gaps]
            rows.append([f"{cut}: {name}", form, *words])
    text = [
        f"{equal} of {len(rows) * len(whole)} resumed runs end equal to the bit in "
        "every array of parameters and state.",
        "",
        markdown.table(["steps behind the cut", "format", *meshes], rows),
        "",
        "On another mesh: the largest difference of a parameter at the end from the "
        "run that was not cut, over all cuts.",
        "",
    ]
    rows = []
    for saved in meshes:
        cells = []
        for onto in meshes:
            ends = [
                resumed(cut, next(iter(formats)), saved, onto)[0]
                for cut in found.values()
                if onto != saved
            ]
            gaps = [gap(end, whole[saved][-1][0]) or 0.0 for end in ends]
            cells.append(f"{max(gaps):.1e}" if gaps else "")
        rows.append([saved, *cells])
    return "\n".join([*text, markdown.table(["saved on", *meshes], rows)])


def resume() -> None:
    """Cut, save, read and resume runs; write results/resume.md."""
    jax.config.update("jax_num_cpu_devices", 8)
    text, made = tables(), timing.environment()
    head = (
        "# Resumed runs\n\n`python -m benchmarks resume`, JAX "
        f"{made['jax']}, {made['devices']} virtual devices. AdamW on a classifier of "
        f"two layers, {STEPS} steps, with dither, a driven momentum, freezing, an "
        "average, a copy, bad batches and a decay at the end.\n\n"
    )
    OUTPUT.write_text(f"{head}{text}\n")
    print(text)
