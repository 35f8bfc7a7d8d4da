"""A regression on eight devices, each with its share of the batch, mapped by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from tests.contract.driving import QUICK

DEVICES = 8


def mesh_of(*sizes, names=("data", "model")):
    kinds = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(sizes, names[: len(sizes)], axis_types=kinds)


def batches(steps, seed=0):
    """x f32[steps, 16, 4] and y f32[steps, 16]; devices see different noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, 2 * DEVICES, 4))
    y = x @ np.arange(1.0, 5.0) + rng.normal(size=x.shape[:2])
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def params():
    return {"w": jnp.zeros(4), "b": jnp.zeros(())}


def loss_fn(p, x, y):
    return jnp.mean((x @ p["w"] + p["b"] - y) ** 2)


def steps_of(tx, reduced=lambda loss, grads: (loss, grads), start=None):
    """A body (x, y) -> (params, state), which inits and takes every step."""

    def body(x, y):
        def step(carry, batch):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params, *batch)
            loss, grads = reduced(loss, grads)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), None

        first = params() if start is None else start()
        return jax.lax.scan(step, (first, tx.init(first)), (x, y))[0]

    return body


def run_alone(tx, x, y):
    """All of the batch on one device."""
    return jax.jit(steps_of(tx), compiler_options=QUICK)(x, y)


ROWS = P("data")


def run_mapped(body, x, y, *, check_vma, out_specs=ROWS, mesh=None):
    """`jax.shard_map` over the batch; what comes back has a row for each device."""
    mesh = mesh or mesh_of(DEVICES)
    batch = P(None, mesh.axis_names)

    def rows(x, y):
        return jax.tree.map(lambda leaf: leaf[None], body(x, y))

    mapped = jax.shard_map(
        rows if out_specs != P() else body,
        mesh=mesh,
        in_specs=(batch, batch),
        out_specs=out_specs,
        check_vma=check_vma,
    )
    return jax.jit(mapped, compiler_options=QUICK)(x, y)


def run_pmapped(body, x, y):
    split = functools.partial(jnp.split, indices_or_sections=DEVICES, axis=1)
    return jax.pmap(body, axis_name="data")(jnp.stack(split(x)), jnp.stack(split(y)))
