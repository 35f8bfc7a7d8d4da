"""What this installation is, and what works in it."""

import importlib.metadata
import os
import platform
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from adaptive_optax.optimizers import adaptive_adam
from adaptive_optax.watch.snapshot import snapshot

PACKAGES = {
    "adaptive_optax": "",
    "jax": "",
    "jaxlib": "",
    "optax": "",
    "numpy": "",
    "flax": "train_state and nnx",
    "matplotlib": "plot_history",
    "rich": "tables in a terminal",
    "tyro": "this command line",
    "orbax-checkpoint": "checkpoints",
    "equinox": "",
    "tensorboardX": "TensorBoard",
}
"""What is looked for, and what needs it."""


def report() -> list[tuple[str, str]]:
    """(what, how it is), line by line: versions, devices, settings, three trials."""
    lines = [("python", f"{platform.python_version()} on {platform.platform()}")]
    for name, use in PACKAGES.items():
        try:
            lines.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            lines.append((name, f"not installed{f' ({use})' if use else ''}"))
    for device in jax.local_devices():
        lines.append((str(device), f"{device.device_kind}, {_memories(device)}"))
    lines.append(("jax_enable_x64", str(jax.config.jax_enable_x64)))  # pyright: ignore
    cache = jax.config.jax_compilation_cache_dir  # pyright: ignore
    lines.append(("compilation cache", str(cache or "off: every run compiles anew")))
    lines.append(("XLA_FLAGS", os.environ.get("XLA_FLAGS") or "none"))
    for what, trial in TRIALS.items():
        lines.append((what, _tried(trial)))
    return lines


def _memories(device: Any) -> str:
    kinds = sorted(memory.kind for memory in device.addressable_memories())
    return "memories: " + ", ".join(kinds)


def _tried(trial: Callable[[], str]) -> str:
    """The trial's answer; whatever goes wrong in it is the answer, too."""
    try:
        return f"works: {trial()}"
    except Exception as error:
        return f"FAILS: {type(error).__name__}: {error}".splitlines()[0]


def _train() -> str:
    """Twenty steps on a parabola."""
    tx = adaptive_adam(1e-2)

    def step(carry, _):
        params, state = carry
        loss, grads = jax.value_and_grad(lambda p: jnp.sum(p**2))(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), snapshot(state)

    params = jnp.ones(3)
    _, seen = jax.jit(lambda c: jax.lax.scan(step, c, length=20))(
        (params, tx.init(params))
    )
    first, last = np.asarray(seen["loss"])[[0, -1]]
    if not last < first:
        raise ArithmeticError(f"the loss went from {first} to {last}")
    return f"the loss fell from {first:.3g} to {last:.3g} in 20 steps"


def _pinned_host() -> str:
    """A copy in host memory, as `Recovery` can keep it."""
    sharding = SingleDeviceSharding(jax.local_devices()[0], memory_kind="pinned_host")
    jax.block_until_ready(jax.device_put(jnp.ones(3), sharding))
    return 'Recovery(memory="pinned_host")'


def _mesh() -> str:
    """A sum over all devices."""
    n = jax.device_count()
    mesh = jax.make_mesh((n,), ("x",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("x"))
    total = jax.jit(jnp.sum)(jax.device_put(jnp.ones(8 * n), spread))
    if total != 8 * n:
        raise ArithmeticError(f"the sum of {8 * n} ones is {total}")
    return f"{n} device{'s' if n > 1 else ''}"


TRIALS: dict[str, Callable[[], str]] = {
    "training": _train,
    "a copy on the host": _pinned_host,
    "a mesh of all devices": _mesh,
}
