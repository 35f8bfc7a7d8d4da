"""Inside `jax.shard_map` and `jax.pmap`: the replicas decide as one, or it is said."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import adaptive_optax as ao
from tests.scale.mapped import (
    DEVICES,
    batches,
    loss_fn,
    mesh_of,
    params,
    run_alone,
    run_mapped,
    steps_of,
)
from tests.scale.replicas import MAPS, different, scheduler

STEPS = 150


@functools.cache
def alone():
    params, state = run_alone(scheduler(), *batches(STEPS))
    assert state.lr_scale > 1.5  # the gains have something to agree on
    return params, state.lr_scale


def rows_of(tree, row):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[row], tree)


def check_as_alone(params, state):
    expected, scale = alone()
    np.testing.assert_allclose(state.lr_scale, scale, rtol=1e-4)
    chex.assert_trees_all_close(params, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_unreduced_replicas_stay_equal_to_the_bit(name):
    body = steps_of(scheduler(axis_name="data"))
    result = MAPS[name](body, *batches(STEPS))
    first = rows_of(result, 0)
    for device in range(1, DEVICES):
        chex.assert_trees_all_equal(rows_of(result, device), first)
    check_as_alone(*first)


def test_over_two_axes_and_with_what_was_reduced_before():
    def reduced(loss, grads):
        return loss, jax.lax.pmean(grads, ("data", "model"))

    body = steps_of(scheduler(axis_name=("data", "model")), reduced)
    mesh = mesh_of(4, 2)
    specs = P(("data", "model"))
    result = run_mapped(
        body, *batches(STEPS), check_vma=False, mesh=mesh, out_specs=specs
    )
    first = rows_of(result, 0)
    chex.assert_trees_all_equal(rows_of(result, DEVICES - 1), first)
    check_as_alone(*first)


def test_with_types_the_result_is_proven_equal():
    def reduced(loss, grads):  # JAX has added up the gradients of what is replicated
        return loss, jax.tree.map(lambda g: g / DEVICES, grads)

    body = steps_of(scheduler(axis_name="data"), reduced)
    result = run_mapped(body, *batches(STEPS), check_vma=True, out_specs=P())
    check_as_alone(*result)


def test_with_types_who_reduced_all_needs_no_option():
    def mean_loss(p, x, y):
        return jax.lax.pmean(loss_fn(p, x, y), "data")

    tx = scheduler()

    def body(x, y):
        first = params()
        loss, grads = jax.value_and_grad(mean_loss)(first, x[0], y[0])
        return tx.update(grads, tx.init(first), first, value=loss)

    run_mapped(body, *batches(1), check_vma=True, out_specs=P())


def test_without_types_who_reduced_all_says_so():
    def reduced(loss, grads):
        return jax.lax.pmean((loss, grads), "data")

    body = steps_of(scheduler(axis_name=()), reduced)
    check_as_alone(*rows_of(run_mapped(body, *batches(STEPS), check_vma=False), 3))


def one_step(tx, **feedback):
    """A body of one update; a feedback is a function of the device's loss."""

    def body(x, y):
        first = params()
        loss, grads = jax.value_and_grad(loss_fn)(first, x[0], y[0])
        fed = {name: of(loss) for name, of in feedback.items()}
        updates, state = tx.update(grads, tx.init(first), first, **fed)
        return updates, state, ao.snapshot(state)

    return body


def test_a_device_without_a_reading_leaves_all_without_one():
    def loss_of_most(loss):
        return jnp.where(jax.lax.axis_index("data") == 5, jnp.nan, loss)

    body = one_step(scheduler(axis_name="data"), value=loss_of_most)
    steps, _, told = run_mapped(body, *batches(1), check_vma=False)
    assert (np.asarray(told["nonfinite_values"]) == 1).all()
    assert np.asarray(steps["w"]).any()  # the gradient is sound, and the step taken


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32])
def test_one_collective_carries_loss_and_reward(dtype):
    def fed(loss):
        return loss.astype(dtype)

    body = one_step(scheduler(axis_name="data"), value=fed, reward=fed)
    mesh, spec = mesh_of(DEVICES), P(None, "data")
    mapped = jax.shard_map(
        lambda x, y: body(x, y)[0],
        mesh=mesh,
        in_specs=(spec, spec),
        out_specs=P(),
        check_vma=False,
    )
    text = jax.jit(mapped).lower(*batches(1)).as_text()
    sent = re.findall(r"all_reduce.*?\}\) : \((.*?)\)", text, re.DOTALL)
    assert sorted(sent) == ["tensor<2xf32>", "tensor<4xf32>", "tensor<f32>"]


def test_the_inner_optimizer_is_given_the_mean_loss():
    def init(params):
        return jnp.zeros(())

    def update(grads, state, params=None, *, value, **extra):
        return grads, value

    inner = optax.GradientTransformationExtraArgs(init, update)
    tx = ao.adaptive_scheduler(inner, axis_name="data")
    body = one_step(tx, value=lambda loss: loss.astype(jnp.float32))
    state = run_mapped(body, *batches(1), check_vma=False)[1]
    x, y = batches(1)
    np.testing.assert_allclose(
        state.inner_state, loss_fn(params(), x[0], y[0]), rtol=1e-5
    )


@pytest.mark.parametrize("check_vma", [True, False])
def test_a_learner_on_each_device(check_vma):
    # Also where the state is made inside: all of it differs by its type from then on.
    options = {"sigma": 1e-3, "freeze_threshold": 1e-6}
    options |= {} if check_vma else {"axis_name": ()}
    body = steps_of(scheduler(**options), start=different)
    moved, state = run_mapped(body, *batches(3), check_vma=check_vma)
    assert len(set(np.asarray(moved["b"]).tolist())) == DEVICES
    assert len(set(np.asarray(ao.snapshot(state)["loss"]).tolist())) == DEVICES


def test_an_ensemble_in_vmap_with_a_name_is_left_alone():
    tx = scheduler()

    def member(p):
        return tx.update(p, tx.init(p), p, value=jnp.float32(1.0))

    jax.vmap(member, axis_name="member")(jnp.ones((3, 4)))
