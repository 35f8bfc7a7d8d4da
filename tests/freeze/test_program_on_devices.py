"""The program that skips, on eight devices."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from adaptive_optax.freeze.backward import program
from tests.freeze.losses import inputs, layers, unrolled
from tests.freeze.masking import EVERY, assert_close, masking


def collectives_outside(compiled):
    """Kinds of the collectives that run whatever the mask is, sorted."""
    text, found, inside = compiled.as_text(), [], False
    branches = set(
        re.findall(
            r"[\w.\-]+",
            " ".join(
                re.findall(
                    r"(?:branch_computations=\{|(?:true|false)_computation=)([^,}]*[^}]*)",
                    text,
                )
            ),
        )
    )
    for line in text.splitlines():
        head = re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head:
            inside = head[1] in branches
        kind = re.search(
            r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
            r"(-start)?\(",
            line,
        )
        if kind and not inside:
            found.append(kind[1])
    return sorted(found)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_eight_devices(kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    params, x = layers(), jnp.tile(inputs(), (2, 1))
    frozen = jax.tree.map(lambda _: jnp.asarray(False), params)
    frozen["blocks"][0] = jax.tree.map(lambda _: jnp.asarray(True), frozen["blocks"][0])
    frozen["embed"] = jnp.asarray(True)
    want = jax.jit(masking(unrolled))(params, frozen, x)
    auto = kind == AxisType.Auto
    specs = jax.tree.map(
        lambda p: P(None, "model") if auto and p.ndim == 2 else P(), params
    )
    put = functools.partial(
        jax.tree.map, lambda v, s: jax.device_put(v, NamedSharding(mesh, s))
    )
    arguments = (
        put(params, specs),
        put(frozen, jax.tree.map(lambda _: P(), frozen)),
        jax.device_put(x, NamedSharding(mesh, P("data"))),
    )
    with jax.set_mesh(mesh):
        vg = ao.frozen_value_and_grad(unrolled, ao.block_labels(params), **EVERY)
        ours = jax.jit(vg).lower(*arguments).compile()
        theirs = jax.jit(masking(unrolled)).lower(*arguments).compile()
        got = ours(*arguments)
    assert_close(jax.tree.map(np.asarray, got), jax.tree.map(np.asarray, want), 1e-5)
    left, all_of_them = collectives_outside(ours), collectives_outside(theirs)
    assert all(left.count(k) <= all_of_them.count(k) for k in set(left))
    assert len(left) < len(all_of_them) or not auto


def test_inside_shard_map():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params, x = layers(), jnp.tile(inputs(), (2, 1))
    frozen = jax.tree.map(lambda f: jnp.asarray(f.ndim == 2), params)

    def step(vg, params, frozen, x):
        value, grads = vg(params, frozen, x)
        return jax.lax.pmean((value, grads), "data")

    def on_all(vg):
        return jax.jit(
            jax.shard_map(
                functools.partial(step, vg),
                mesh=mesh,
                in_specs=(P(), P(), P("data")),
                out_specs=P(),
            )
        )

    got = on_all(ao.frozen_value_and_grad(unrolled, **EVERY))(params, frozen, x)
    assert_close(got, on_all(masking(unrolled))(params, frozen, x), 1e-5)


@pytest.mark.parametrize("which", ["in_shardings", "out_shardings"])
def test_a_call_that_asks_for_a_sharding_is_not_unrolled(which):
    # Of the operations in it nobody would ask it any more.
    def names(**options):
        sin = jax.jit(jnp.sin, **options)
        return [op.name for op in program.flatten(jax.make_jaxpr(sin)(1.0)).ops]

    assert names() == ["sin"]
    (name,) = names(**{which: SingleDeviceSharding(jax.devices()[0])})
    assert name in program.NESTED
