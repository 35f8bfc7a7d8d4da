"""The check that replicas still agree, and what it does if they do not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from adaptive_optax.agreement import _checksum
from tests.scale.mapped import (
    batches,
    loss_fn,
    params,
    run_mapped,
    steps_of,
)

EVERY = 4
ODD = 5  # the device whose replica is spoilt


def scheduler(**options):
    return ao.adaptive_scheduler(
        optax.adam,
        1e-2,
        momentum_rule=ao.rules.alignment(),
        sigma=1e-4,
        freeze_threshold=1e-9,
        axis_name="data",
        check_replicas=EVERY,
        **options,
    )


def run(spoil, steps=2 * EVERY, **options):
    """From replicas of which one was spoilt; the states after each step, stacked."""
    tx = scheduler(**options)

    def body(x, y):
        device = jax.lax.axis_index("data")
        first = params()
        carry = first, tx.init(first)
        spoilt = spoil(*carry)
        carry = jax.tree.map(lambda a, b: jnp.where(device == ODD, a, b), spoilt, carry)

        def step(carry, batch):
            p, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(p, *batch)
            updates, state = tx.update(grads, state, p, value=loss)
            carry = optax.apply_updates(p, updates), state
            return carry, carry

        return jax.lax.scan(step, carry, (x, y))[1]

    return run_mapped(body, *batches(steps), check_vma=False)


def found(state):
    told = ao.snapshot(state)["replica_mismatches"]
    assert (told == told[:1]).all()  # all devices count the same
    return told[0].tolist()


@functools.cache
def sound():
    return run(lambda p, s: (p, s))


def test_equal_replicas_are_left_alone():
    assert found(sound()[1]) == [0] * (2 * EVERY)


def test_the_check_changes_no_number_and_goes_with_types():
    ends = []
    for options in ({}, {"check_replicas": EVERY}):
        tx = ao.adaptive_scheduler(optax.adam, 1e-2, axis_name="data", **options)
        body = steps_of(tx)
        ends.append(run_mapped(body, *batches(9), check_vma=True, out_specs=P()))
    (p, state), (q, checked) = ends
    assert checked.agreement.replica_mismatches == 0
    np.testing.assert_array_equal(p["w"], q["w"])
    np.testing.assert_array_equal(state.readings, checked.readings)


def test_gains_that_differ_become_those_of_the_first_device():
    def spoil(p, state):
        scale, momentum = state.lr_scale * 3, state.momentum * 0.5
        return p, state._replace(lr_scale=scale, momentum=momentum)

    p, state = run(spoil)
    assert found(state)[0] == 1
    for gain in (
        state.lr_scale,
        state.momentum,
        state.sigma,
        state.recovery.remembered,
    ):
        assert (gain == gain[:1]).all()
    assert (p["w"] == p["w"][:1]).all()  # healed before the first step
    assert found(state) == [1] * (2 * EVERY)


def test_parameters_that_differ_are_counted_at_every_check_and_left():
    def spoil(p, state):
        return p | {"w": p["w"].at[1].set(1e-6)}, state

    p, state = run(spoil, average=False, recovery=False)
    assert found(state) == [1] * EVERY + [2] * EVERY
    assert np.ptp(p["w"][:, 0, 1]) > 0
    assert (state.lr_scale == state.lr_scale[:1]).all()


def test_a_single_bit_is_seen_in_any_dtype():
    trees = {
        "f32": jnp.asarray([0.0, 1.0]),
        "bf16": jnp.asarray([0.0, 1.0], jnp.bfloat16),
        "i8": jnp.asarray([0, 1], jnp.int8),
        "bool": jnp.asarray([False, True]),
        "complex": jnp.asarray([0j, 1j]),
    }
    changes = [("f32", jnp.asarray([-0.0, 1.0]))]
    for name, leaf in trees.items():
        other = ~leaf[:1] if leaf.dtype == bool else leaf[:1] + 1
        changes += [(name, leaf[::-1]), (name, leaf.at[:1].set(other))]
    for name, leaf in changes:
        assert _checksum(trees | {name: leaf}) != _checksum(trees), (name, leaf)
