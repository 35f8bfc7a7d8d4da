"""Train on several hosts, lose one, and go on where the last checkpoint was.

    python examples/multihost.py                   # two processes on this machine
    python examples/multihost.py --lose 1 25       # process 1 is killed at step 25
    python examples/multihost.py --processes 4     # and four go on

On several machines start it once on each, with the address of the first:

    python examples/multihost.py --processes 2 --process 0 --coordinator 10.0.0.1:8476
    python examples/multihost.py --processes 2 --process 1 --coordinator 10.0.0.1:8476

Nothing here is of the controller: loss and gradients are those of the whole batch under
`jax.jit`, so every process computes the same gains. Each writes what it saw at every
step into its own file, and the files are equal to the bit.
"""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import tyro
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao

DEVICES = 8  # in all, where all processes run on this machine
WIDTH, BATCH = 64, 32


@dataclass(frozen=True)
class Config:
    """What to run."""

    processes: int = 2
    """How many there are; of one machine's 8 virtual devices each has its share."""
    process: int | None = None
    """Which of them this is; without it all are started here."""
    coordinator: str | None = None
    """Address and port of process 0."""
    folder: Path = Path("runs/multihost")
    """Of checkpoints and logs; all processes must see it."""
    steps: int = 60
    """Length of the run, with the steps that a checkpoint has behind it."""
    save_every: int = 10
    """Steps between two checkpoints."""
    lose: tuple[int, int] | None = None
    """A process and a step: it is killed there."""
    heartbeat: int = 10
    """Seconds of silence after which a process counts as lost."""


def batch_at(step: int, sharding: NamedSharding) -> tuple[jax.Array, jax.Array]:
    """A batch that depends on the step alone; each process makes its own rows."""
    rng = np.random.default_rng(step)
    x = rng.normal(size=(BATCH, WIDTH)).astype(np.float32)
    y = np.tanh(x[:, :1] + x[:, 1:2]) + 0.1 * rng.normal(size=(BATCH, 1))

    def placed(whole: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(
            whole.shape, sharding, lambda index: whole[index]
        )

    return placed(x), placed(y.astype(np.float32))


def loss_fn(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared error of a small MLP."""
    hidden = jnp.tanh(x @ params["up"] + params["bias"])
    return jnp.mean((hidden @ params["down"] - y) ** 2)


def first(tx: optax.GradientTransformation, mesh: Mesh) -> tuple[Any, Any]:
    """The first train state, and the sharding of each leaf: large ones by rows."""

    def init() -> tuple[Any, Any]:
        keys = jax.random.split(jax.random.key(0))
        params = {
            "up": jax.random.normal(keys[0], (WIDTH, WIDTH)) / WIDTH**0.5,
            "bias": jnp.zeros(WIDTH),
            "down": jax.random.normal(keys[1], (WIDTH, 1)) / WIDTH**0.5,
        }
        return params, tx.init(params)

    def sharding(leaf: Any) -> NamedSharding:
        rows = leaf.shape[:1] == (WIDTH,)
        return NamedSharding(mesh, P("data") if rows else P())

    shardings = jax.tree.map(sharding, jax.eval_shape(init))
    return jax.jit(init, out_shardings=shardings)(), shardings


def controls(state: Any) -> str:
    """All of the snapshot, to the bit."""
    told = ao.snapshot(state)
    here = {name: np.asarray(x.addressable_data(0)) for name, x in told.items()}
    return " ".join(f"{name}={x.tobytes().hex()}" for name, x in here.items())


def work(config: Config) -> None:
    """Be one of the processes."""
    jax.distributed.initialize(
        config.coordinator,
        config.processes,
        config.process,
        heartbeat_timeout_seconds=config.heartbeat,
    )
    kinds = (AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=kinds)
    rows = NamedSharding(mesh, P("data"))
    tx = ao.adaptive_scheduler(optax.adam, 3e-4, mode="search", sigma=1e-3)
    carry, shardings = first(tx, mesh)
    manager = ocp.CheckpointManager(
        (config.folder / "checkpoints").absolute(),
        options=ocp.CheckpointManagerOptions(max_to_keep=2),
    )
    begin = manager.latest_step() or 0
    if begin:
        like = jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
            carry,
            shardings,
        )
        carry = manager.restore(begin, args=ocp.args.StandardRestore(like))

    @jax.jit
    def step(carry, x, y):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
        updates, state = tx.update(grads, state, params, value=loss)
        carry = optax.apply_updates(params, updates), state
        return jax.lax.with_sharding_constraint(carry, shardings)

    log = (config.folder / f"controls-{config.process}.txt").open("a")
    for count in range(begin, config.steps):
        if config.lose == (config.process, count):
            os.kill(os.getpid(), signal.SIGKILL)
        carry = step(carry, *batch_at(count, rows))
        print(count, controls(carry[1]), file=log, flush=True)
        if (count + 1) % config.save_every == 0:
            manager.save(count + 1, args=ocp.args.StandardSave(carry))
            manager.wait_until_finished()
    if config.process == 0:
        rate = float(carry[1].learning_rate.addressable_data(0))
        print(f"steps {begin} to {config.steps}, learning rate {rate:.3g}")
    manager.close()
    jax.distributed.shutdown()


def start(config: Config) -> int:
    """Start all processes on this machine; 0 if all of them end well."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    config.folder.mkdir(parents=True, exist_ok=True)
    flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if "count" not in f]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(DEVICES // config.processes),
        "XLA_FLAGS": " ".join(flags),
    }
    here = replace(config, coordinator=f"localhost:{port}")
    running = [
        subprocess.Popen(
            [sys.executable, __file__, *arguments(replace(here, process=process))],
            env=environment,
        )
        for process in range(config.processes)
    ]
    codes = [process.wait() for process in running]
    if not any(codes):
        return 0
    ends = ", ".join(f"{process}: {code}" for process, code in enumerate(codes))
    saved = (config.folder / "checkpoints").glob("*")
    last = max((int(p.name) for p in saved if p.name.isdecimal()), default=0)
    print(
        f"a process was lost (exit codes {ends}). The last checkpoint is of step "
        f"{last}: the same command goes on from there, also with another --processes "
        f"that divides {DEVICES}.",
        file=sys.stderr,
    )
    return 1


def arguments(config: Config) -> list[str]:
    """The command line that makes this configuration."""
    lose = [] if config.lose is None else ["--lose", *map(str, config.lose)]
    names = ("processes", "process", "coordinator", "folder", "steps", "save_every")
    values = {name: getattr(config, name) for name in (*names, "heartbeat")}
    pairs = [(f"--{name.replace('_', '-')}", str(x)) for name, x in values.items()]
    return [*(word for pair in pairs for word in pair), *lose]


def main() -> None:
    """Start all processes, or be one."""
    config = tyro.cli(Config, description=__doc__)
    if config.process is None:
        sys.exit(start(config))
    work(config)


if __name__ == "__main__":
    main()
