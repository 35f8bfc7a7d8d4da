"""What the controller adds to the traffic of a mesh, counted in compiled programs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from tests.contract.driving import QUICK
from tests.helpers import few
from tests.scale.mapped import mesh_of

SHAPES = {
    "embedding": (512, 256),
    "up": (256, 512),
    "up bias": (512,),
    "down": (512, 256),
    "norm": (256,),
}


def tensor_parallel(name):
    by_name = {"up": P(None, "data"), "up bias": P("data"), "norm": P()}
    return by_name.get(name, P("data", None))


def on_two_axes(name):
    return P("data", "model") if len(SHAPES[name]) == 2 else P("data")


# Mesh, sharding, and collectives allowed: one before a step and one after it, for each
# set of axes that leaves are sharded over, since each needs other devices.
LAYOUTS = {
    "data": ((8,), lambda name: P(), 0),
    "tensor": ((8,), tensor_parallel, 2),
    "fully sharded": ((8,), lambda name: P("data"), 2),
    "4x2": ((4, 2), on_two_axes, 4),
}
OPTIONS = {
    "default": {},
    "search": {"mode": "search", "momentum_rule": ao.rules.alignment()},
    "freezing": {"freeze": ao.Freeze(1e-4)},
    "dither": {"sigma": 1e-3},
}


def collectives(step, *arguments):
    """The kind of every operation in which devices exchange something."""
    text = step.lower(*arguments).compile(compiler_options=QUICK).as_text()
    kinds = (
        "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
        "|collective-broadcast"
    )
    return re.findall(rf"= .*? ({kinds})(?:-start)?\(", text)


CASES = [(layout, "default") for layout in LAYOUTS]
CASES += [("fully sharded", name) for name in OPTIONS if name != "default"]


@pytest.mark.parametrize("layout, options", few(CASES, CASES[1:4]))
def test_all_scalars_travel_in_two_collectives(layout, options):
    sizes, spec_of, allowed = LAYOUTS[layout]
    mesh = mesh_of(*sizes)
    rng = np.random.default_rng(0)
    params = {
        name: jax.device_put(
            jnp.asarray(rng.normal(size=shape), jnp.float32),
            NamedSharding(mesh, spec_of(name)),
        )
        for name, shape in SHAPES.items()
    }
    tx = ao.adaptive_scheduler(optax.adamw, 1e-3, **OPTIONS[options])

    @jax.jit
    def step(params, grads, state, value):
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    sent = collectives(step, params, params, tx.init(params), jnp.float32(1.0))
    # Each under its condition: are parameters lost, when a copy is due; how large is
    # the noise, where there is any.
    allowed += allowed // 2
    allowed += options == "dither"
    assert sent == ["all-reduce"] * allowed
