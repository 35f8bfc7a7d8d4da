"""Runs that are cut, saved, read back and resumed, beside the run that nothing cut.

    python -m benchmarks resume

A small classifier is trained with everything on, and with bad batches on purpose. It is
cut where the state is in the middle of something; these steps are found in the run
itself. At each cut the train state goes through every format, and the rest of the run
is made again: on the mesh that it was saved on, and on every other one. Meshes are of
eight virtual devices.
"""

import io
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization

import adaptive_optax as ao
from benchmarks import markdown, timing
from benchmarks.cut_run import (
    CUTS,
    MESHES,
    STEPS,
    Carry,
    Place,
    cuts_of,
    optimizer,
    place,
    start,
)

OUTPUT = Path(__file__).parent / "results" / "resume.md"


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
