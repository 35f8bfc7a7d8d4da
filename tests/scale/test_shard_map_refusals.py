"""Inside `jax.shard_map` and `jax.pmap`: what differs and is not told of is refused."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from tests.scale.mapped import (
    batches,
    loss_fn,
    mesh_of,
    params,
    run_alone,
    run_mapped,
    steps_of,
)
from tests.scale.replicas import MAPS, different, scheduler


@pytest.mark.parametrize("name", MAPS)
def test_where_nothing_tells_the_option_is_named(name):
    message = r"over 'data' nothing tells .*\n?.*axis_name='data'\).*axis_name=\(\)"
    with pytest.raises(ValueError, match=message):
        MAPS[name](steps_of(scheduler()), *batches(1))


def test_a_loss_of_one_device_is_refused_by_its_type():
    with pytest.raises(ValueError, match=r"the loss differs .*axis_name='data'\)"):
        run_mapped(steps_of(scheduler()), *batches(1), check_vma=True)


def test_a_gradient_of_one_device_is_refused_with_its_name():
    def body(x, y):
        first, tx = params(), scheduler()
        grads = {"w": x[0, 0], "b": jnp.zeros(())}
        return tx.update(grads, tx.init(first), first, value=1.0)

    with pytest.raises(ValueError, match="the gradient at 'w' differs"):
        run_mapped(body, *batches(1), check_vma=True)


def mixed_step(options):
    """A body with a shard over "model" beside what is replicated."""

    def body(x, y):
        first = params()
        first["w"] = first["w"] + jax.lax.axis_index("model")
        grads = jax.tree.map(jnp.ones_like, first)
        tx = scheduler(**options)
        return tx.update(grads, tx.init(first), first, value=1.0)[0]

    return body


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "gradient at 'w' differs over the axis 'model', but not all"),
        ({"axis_name": "data"}, "gradient at 'w' differs over the axis 'model'"),
        ({"axis_name": ("data", "model")}, "parameter at 'w' .*under jax.jit without"),
    ],
)
def test_shards_are_not_for_shard_map(options, message):
    body, specs = mixed_step(options), P(("data", "model"))
    with pytest.raises(ValueError, match=message):
        run_mapped(
            body, *batches(1), check_vma=True, mesh=mesh_of(4, 2), out_specs=specs
        )


def test_parameters_that_all_differ_under_one_loss_are_shards():
    def loss_of(p, x, y):
        return jax.lax.pmean(loss_fn(p, x, y), "data")

    def body(x, y):
        first, tx = different(), scheduler()
        loss, grads = jax.value_and_grad(loss_of)(first, x[0], y[0])
        return tx.update(grads, tx.init(first), first, value=loss)

    with pytest.raises(ValueError, match="under jax.jit without"):
        run_mapped(body, *batches(1), check_vma=True)


def test_an_axis_that_is_not_bound():
    with pytest.raises(ValueError, match=r"'data', but no such axis .*leave axis_name"):
        run_alone(scheduler(axis_name="data"), *batches(1))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"axis_name": 3}, TypeError, r'got 3; try axis_name="data"'),
        ({"axis_name": ("data", None)}, TypeError, "must be the name"),
        ({"axis_name": "data", "check_replicas": 0}, ValueError, "at least 1, got 0"),
        ({"check_replicas": 10}, ValueError, "got axis_name=None; try axis_name"),
        ({"axis_name": (), "check_replicas": 10}, ValueError, r"got axis_name=\(\)"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        scheduler(**options)
