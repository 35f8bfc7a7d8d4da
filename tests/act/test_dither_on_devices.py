"""The bits of the dither are the same on any mesh, and cost little there."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptive_optax.act.dither import dither

COUNT = jnp.int32(3)

# Of whole words, of parts of words on every device, of less than a word, of none.
SHAPES = {
    "whole": (16, 512),
    "first": (512, 48),
    "parts": (8, 3, 40),
    "bias": (24,),
    "odd": (5, 7),
    "long": (1001,),
    "scalar": (),
    "empty": (0, 8),
}


def two_draws():
    """Both noises of a tree with complex and half-precision leaves, jitted."""
    updates = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    updates["half"] = jnp.zeros((8, 64), jnp.bfloat16)
    updates["complex"] = jnp.zeros((64, 2), jnp.complex64)

    @jax.jit
    def step(u):
        kwargs = {"seed": 0, "count": COUNT, "scale": "isotropic"}
        return {
            name: dither(None, u, 0.1, distribution=name, **kwargs)
            for name in ("gaussian", "rademacher")
        }

    return step, updates


@pytest.fixture(scope="module")
def alone():
    step, updates = two_draws()
    return jax.device_get(step(updates))


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("devices", [2, 8])
def test_the_same_bits_on_any_number_of_devices(alone, devices, explicit):
    kind = jax.sharding.AxisType.Explicit if explicit else jax.sharding.AxisType.Auto
    mesh = jax.make_mesh(
        (devices,), ("x",), axis_types=(kind,), devices=jax.devices()[:devices]
    )
    step, updates = two_draws()

    def fully_sharded(leaf):
        whole = [n > 0 and n % devices == 0 for n in leaf.shape]
        # The last axis that can be split: signs share words along it in most leaves.
        axis = len(whole) - 1 - whole[::-1].index(True) if any(whole) else None
        spec = jax.P() if axis is None else jax.P(*[None] * axis, "x")
        return jax.sharding.NamedSharding(mesh, spec)

    with jax.set_mesh(mesh):
        shardings = jax.tree.map(fully_sharded, updates)
        many = step(jax.device_put(updates, shardings))
    for distribution, noises in many.items():
        for name in ("whole", "first", "parts", "bias", "half", "complex"):
            assert noises[name].sharding.is_equivalent_to(
                shardings[name], noises[name].ndim
            )
        for name in noises:
            np.testing.assert_array_equal(noises[name], alone[distribution][name])


@pytest.mark.parametrize("axis", [0, 1])
def test_signs_of_sharded_leaves_move_nothing_between_devices(axis):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.P("x") if axis == 0 else jax.P(None, "x")
    sharding = jax.sharding.NamedSharding(mesh, spec)
    updates = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
        for name, shape in {"whole": (512, 1024), "parts": (320, 320)}.items()
    }

    @jax.jit
    def step(u):
        kwargs = {"seed": 0, "count": COUNT, "scale": "isotropic"}
        return dither(None, u, 0.1, distribution="rademacher", **kwargs)

    text = step.lower(updates).compile().as_text()
    moves = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    assert not re.findall(rf"= .*? (?:{moves})(?:-start)?\(", text)
