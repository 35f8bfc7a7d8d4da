"""The good copy, and the way back to it."""

import collections
import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.helpers import few
from tests.supervise.driving import (
    PARAMS,
    PLAIN,
    PLAIN_STEP,
    calm,
    feed,
    restores,
    updater,
)


def test_a_way_back_that_ends_in_a_step_without_a_loss_is_no_step():
    # The fifth bad batch restores; the step after it, which repeats, has no loss.
    _, state = feed([*calm(80), *[1e4] * 5, None])
    assert int(state.recovery.judges.trial.restoring) == 1
    chex.assert_trees_all_equal(
        state.sensor.motion.step_sketch,
        jax.tree.map(jnp.zeros_like, state.sensor.motion.step_sketch),
    )
    assert not np.any(state.sensor.cosines)


def test_a_copy_in_bfloat16_restores_to_its_accuracy():
    tx = ao.adaptive_scheduler(
        optax.adam,
        0.01,
        average=False,
        mode="safe",
        recovery=ao.Recovery(dtype=jnp.bfloat16),
    )
    step = updater(tx)
    params, state = feed(calm(80), step=step, tx=tx)
    params, state = feed([*calm(1), *[1e4] * 5, 2.0, 2.0], params, state, step, tx)
    kept = state.recovery.copy.good_params
    floats = [x.dtype for x in jax.tree.leaves((kept, state.recovery.copy.good_inner))]
    assert set(map(str, floats)) == {"bfloat16", "int32"}
    # After the first step at the good parameters Adam moves by no more than its rate.
    back = jax.tree.map(lambda x: x.astype(jnp.float32), kept)
    chex.assert_trees_all_close(params, back, atol=0.01, rtol=0)
    first = tx.init(PARAMS)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, first)
    assert restores(state) == 1


def test_the_copy_costs_no_memory_beside_itself():
    params = {f"w{i}": jax.ShapeDtypeStruct((512, 256), jnp.float32) for i in range(4)}
    size = sum(leaf.size * 4 for leaf in params.values())

    def step(tx, params, state, x):
        def loss(p):
            return sum(jnp.sum(jnp.tanh(x @ w) ** 2) for w in p.values())

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    def scratch(**options):
        tx = ao.adaptive_scheduler(optax.adam, 0.01, **options)
        run = jax.jit(functools.partial(step, tx), donate_argnums=(0, 1))
        x = jax.ShapeDtypeStruct((8, 512), jnp.float32)
        compiled = run.lower(params, jax.eval_shape(tx.init, params), x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # XLA keeps the copy, three times the parameters, in place. On the CPU it may keep
    # the parameters of before beside the new ones: the way back is measured from them.
    assert scratch() < scratch(average=False, recovery=False) + 1.1 * size


def test_what_a_bfloat16_copy_rounds_is_all_that_is_lost():
    params = {"w": jnp.linspace(0.1, 3.0, 50), "n": jnp.ones(3)}
    tx = ao.adaptive_scheduler(
        optax.sgd,
        1e-9,
        average=False,
        mode="safe",
        recovery=ao.Recovery(dtype=jnp.bfloat16),
    )
    step = updater(tx)
    lost, state = feed(calm(81), params, step=step, tx=tx)
    lost = jax.tree.map(lambda p: p + 7.0, lost)
    lost, state = feed([*[1e4] * 5, 2.0, 2.0], lost, state, step, tx)
    assert restores(state) == 1
    rounded = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    chex.assert_trees_all_equal(
        jax.tree.map(lambda p: p.astype(jnp.bfloat16), lost), rounded
    )
    chex.assert_trees_all_close(lost, params, rtol=2**-8)


@pytest.mark.parametrize(
    "dtype, size",
    [
        ("float32", 1e-3),
        ("float32", 1.0),
        ("float32", 1e6),
        ("bfloat16", 1.0),
        ("bfloat16", 1e6),
        ("float16", 1e4),
    ],
)
def test_what_was_lost_is_back_to_the_bit_within_three_steps(dtype, size):
    # A sum is rounded at the size of what was lost, so one way back is not enough.
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    params, state = feed(calm(65), params, step=PLAIN_STEP, tx=PLAIN)
    good = state.recovery.copy.good_params
    lost = jax.tree.map(
        lambda p: (p + size * jnp.cos(9 * p.astype(jnp.float32))).astype(dtype), params
    )
    _, state = feed([1e4] * 4, params, state, step=PLAIN_STEP, tx=PLAIN)
    for value in (1e4, 2.0, 2.0):
        lost, state = PLAIN_STEP(lost, state, value, size=0.0)
    assert restores(state) == 1
    chex.assert_trees_all_equal(lost, good)


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


CONTAINERS = {
    "ordered": collections.OrderedDict(w=jnp.ones((2, 3)), b=jnp.zeros(3)),
    "ordered, of one shape": collections.OrderedDict(z=jnp.ones(3), a=jnp.zeros(3)),
    "named tuple": Layer(jnp.ones((2, 3)), jnp.zeros(3)),
    "list": [jnp.ones((2, 3)), (jnp.zeros(3), {})],
    "leaf": jnp.ones(4),
}


@pytest.mark.parametrize(
    "container", few(CONTAINERS, ["ordered, of one shape", "named tuple"])
)
def test_the_copy_keeps_parameters_of_any_container_apart(container):
    # Their moments came back under another leaf's name.
    params = CONTAINERS[container]
    tx = ao.adaptive_scheduler(optax.adam, 0.01, average=False, mode="safe")
    state = tx.init(params)
    update = jax.jit(lambda g, s, p, v: tx.update(g, s, p, value=v))
    leaves, structure = jax.tree.flatten(params)
    grads = structure.unflatten(
        [jnp.full_like(leaf, i + 1.0) for i, leaf in enumerate(leaves)]
    )
    for value in [2.0, 2.1, 1e4, 1e4, 2.0]:
        _, state = update(grads, state, params, value)
    assert restores(state) == 1
    _, state = update(grads, state, params, 2.0)
    first = jax.tree.map(lambda g: 0.1 * g, grads)
    chex.assert_trees_all_close(optax.tree.get(state, "mu"), first, rtol=1e-5)
    same = optax.tree.map_params(tx, lambda leaf, p: leaf, state, params)
    chex.assert_trees_all_equal(same, state)
