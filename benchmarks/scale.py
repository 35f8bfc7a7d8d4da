"""What every option costs at scale: bytes a device, and what devices exchange.

Bytes are calculated from shapes on abstract meshes (`ao.state_bytes`), so no device is
needed. What is exchanged is counted in the compiled step of a small model, fully
sharded over eight virtual devices; it depends on the number of leaves, not on their
size.
"""

import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import adaptive_optax as ao

FILE = Path(__file__).parent.parent / "docs" / "scale.md"
BEGIN = "<!-- python -m benchmarks scale -->"
HOST = ao.Recovery(memory="pinned_host")
HALF = ao.Recovery(dtype=jnp.bfloat16)
LEAN = ao.Recovery(dtype=jnp.bfloat16, inner=False)
OPTIONS: dict[str, dict[str, Any]] = {
    "the law alone": {"average": False, "recovery": False},
    "`average`": {"recovery": False},
    "`recovery`": {"average": False},
    "both: the default": {},
    "default, `Recovery(dtype=bfloat16)`": {"recovery": HALF},
    "default, `Recovery(inner=False)`": {"recovery": ao.Recovery(inner=False)},
    "default, both of these": {"recovery": LEAN},
    'default, `Recovery(memory="pinned_host")`': {"recovery": HOST},
    "default, `freeze_threshold`": {"freeze_threshold": 1e-3},
    "default, `sketch=1/256`": {"sketch": 1 / 256},
}
COMPILED = ("the law alone", "`average`", "`recovery`", "both: the default")
MESHES = {8: (4, 2), 64: (8, 8), 512: (32, 16), 4096: (64, 64)}


def model(layers: int, width: int, inner: int, vocab: int, keys: int) -> dict[str, Any]:
    """A decoder whose layers are stacked, float32."""
    shapes = {
        "embedding": (vocab, width),
        "head": (width, vocab),
        "queries": (layers, width, width),
        "keys": (layers, width, keys),
        "values": (layers, width, keys),
        "output": (layers, width, width),
        "up": (layers, width, inner),
        "gate": (layers, width, inner),
        "down": (layers, inner, width),
        "norms": (layers, 2, width),
    }
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()
    }


MODELS = {
    "125 M": model(10, 768, 2048, 32_768, 768),
    "7 B": model(32, 4096, 11_008, 32_000, 4096),
    "400 B": model(124, 16_384, 53_248, 128_256, 1024),
}


def spread(params: Any, mesh: Any) -> Any:
    """Fully sharded: the last two axes over the two of the mesh, where they divide."""
    first, second = mesh.axis_names

    def one(leaf: Any) -> NamedSharding:
        whole = [None] * (leaf.ndim - 2)
        last = [
            name if extent % mesh.shape[name] == 0 else None
            for extent, name in zip(leaf.shape[-2:], (first, second), strict=True)
        ]
        return NamedSharding(mesh, PartitionSpec(*whole, *last))

    return jax.tree.map(one, params)


def memory() -> list[str]:
    """One table for each model: GiB a device beside the inner optimizer's."""
    lines = []
    for name, params in MODELS.items():
        count = sum(math.prod(leaf.shape) for leaf in params.values())
        lines += [
            f"### {name} ({count / 1e9:.3g} billion parameters)",
            "",
            "| | bytes a parameter | "
            + " | ".join(f"{n} devices" for n in MESHES)
            + " | on the host |",
            "|---" * (len(MESHES) + 3) + "|",
        ]
        adam = ao.state_bytes(optax.adamw(1e-3), params)["total"] / count
        row = f"| AdamW's own | {adam:.2f} |"
        for options in ({"average": False, "recovery": False}, *OPTIONS.values()):
            cells, host, first = [], 0, 0
            tx = ao.adaptive_adamw(1e-3, **options)
            own = row.startswith("| AdamW")
            for shape in MESHES.values():
                mesh = AbstractMesh(shape, ("data", "model"), (AxisType.Auto,) * 2)
                cost = ao.state_bytes(tx, params, spread(params, mesh))
                size = cost["inner"] if own else cost["total"] - cost["inner"]
                if shape == MESHES[8]:
                    host, first = cost["host"], size
                cells.append(f"{size / 2**30:.3g}")
            if not own:  # eight devices divide every axis of these models
                each = 8 * first / count
                label = next(key for key, x in OPTIONS.items() if x is options)
                row = f"| {label} | {each:.2f} |"
            far = f"{host / 2**30:.3g} at 8" if host else ""
            lines.append(f"{row} {' | '.join(cells)} | {far} |")
            row = ""
        lines.append("")
    return lines


def exchanged() -> list[str]:
    """What eight devices exchange in a step, beside the plain optimizer's own."""
    lines = ["| | all-reduces | bytes | others |", "|---|---|---|---|"]
    small = model(2, 256, 512, 1024, 256)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    places = spread(small, mesh)
    params = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=places[name])
        for name, leaf in small.items()
    }
    plain = {"plain AdamW": optax.with_extra_args_support(optax.adamw(1e-3))}
    ours = {name: ao.adaptive_adamw(1e-3, **OPTIONS[name]) for name in COMPILED}
    for name, tx in (plain | ours).items():
        state = jax.eval_shape(tx.init, small)
        where = ao.state_shardings(tx, small, places)
        state = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            state,
            where,
        )

        def step(params: Any, state: Any, tx: Any = tx) -> Any:
            updates, state = tx.update(params, state, params, value=jnp.float32(1))
            return optax.apply_updates(params, updates), state

        run = jax.jit(step, out_shardings=(places, where))
        text = run.lower(params, state).compile().as_text() or ""
        sums, size, others = _collectives(text)
        lines.append(f"| {name} | {sums} | {size} | {others} |")
    return lines


def _collectives(text: str) -> tuple[int, int, int]:
    """All-reduces, their bytes, and how many collectives of another kind there are."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    sums, size, others = 0, 0, 0
    for result, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
        if kind != "all-reduce":
            others += 1
            continue
        sums += 1
        for bits, shape in re.findall(r"[a-z]+(\d*)\[([\d,]*)\]", result):
            extent = math.prod(int(n) for n in shape.split(",") if n)
            size += extent * (int(bits) // 8 if bits else 1)
    return sums, size, others


def scale() -> None:
    """Calculate the tables of docs/scale.md anew."""
    jax.config.update("jax_num_cpu_devices", 8)
    told = FILE.read_text().partition(BEGIN)[0]
    parts = ["## Memory: GiB a device", "", *memory()]
    FILE.write_text(told + BEGIN + "\n\n" + "\n".join(parts) + "\n")
    parts += ["## What devices exchange in a step", "", *exchanged()]
    FILE.write_text(told + BEGIN + "\n\n" + "\n".join(parts) + "\n")
