"""The sketch: how much of a tree it keeps, and the same of every shard."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from adaptive_optax.sense import sketch

shapes = st.lists(
    st.lists(st.sampled_from([1, 3, 16, 31, 32, 64, 100, 256, 768]), max_size=4),
    min_size=1,
    max_size=4,
)


def abstract(shapes, dtype=jnp.float32):
    return [jax.ShapeDtypeStruct(tuple(shape), dtype) for shape in shapes]


@settings(max_examples=200, deadline=None)
@given(shapes=shapes, fraction=st.sampled_from([1.0, 0.5, 0.1, 1 / 64, 1e-4]))
def test_at_least_the_share_is_kept(shapes, fraction):
    kept = jax.eval_shape(lambda tree: sketch.take(tree, fraction), abstract(shapes))
    for shape, part in zip(shapes, kept, strict=True):
        assert part.dtype == jnp.float32 and len(part.shape) == len(shape)
        assert math.prod(part.shape) >= fraction * math.prod(shape)
        if fraction == 1.0:
            assert part.shape == tuple(shape)


@pytest.mark.parametrize(
    "shape", [(4096, 4096), (50304, 768), (12, 768, 3072), (2**20,)]
)
@pytest.mark.parametrize("fraction", [1 / 64, 1 / 100])
def test_a_large_leaf_keeps_little_more_than_its_share(shape, fraction):
    (kept,) = jax.eval_shape(
        lambda tree: sketch.take(tree, fraction), abstract([shape])
    )
    assert math.prod(kept.shape) <= 2.05 * fraction * math.prod(shape)


@pytest.mark.parametrize("length", [31, 255, 4095])
def test_no_axis_is_thinned_below_sixteen_entries(length):
    kept = jax.eval_shape(lambda x: sketch.take(x, 1e-4), abstract([(length,)])[0])
    assert 16 <= kept.shape[0] < 32


def test_small_models_are_kept_whole():
    params = abstract([(32, 16), (16,)])
    assert sketch.fraction_of(params, 1 / 64) == 1.0


def test_a_model_keeps_a_thousand_coordinates_at_least():
    params = abstract([(100, 100)])
    fraction = sketch.fraction_of(params, 1e-6)
    (kept,) = jax.eval_shape(lambda tree: sketch.take(tree, fraction), params)
    assert math.prod(kept.shape) >= sketch.MIN_COORDINATES


def test_no_parameters_are_no_division_by_zero():
    assert sketch.fraction_of({}, 1 / 64) == 1.0


def test_what_is_kept_are_the_coordinates_themselves():
    leaf = jnp.arange(64 * 128, dtype=jnp.float32).reshape(64, 128)
    kept = sketch.take({"x": leaf}, 1 / 16)["x"]
    assert set(np.ravel(kept)) <= set(np.ravel(leaf))
    again = sketch.take({"x": leaf}, 1 / 16)["x"]
    np.testing.assert_array_equal(kept, again)


def test_complex_leaves_are_kept_as_pairs():
    leaf = jnp.array([1 + 2j, 3 - 4j], jnp.complex64)
    np.testing.assert_array_equal(sketch.take([leaf], 1.0)[0], [[1, 2], [3, -4]])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64, jnp.bfloat16])
def test_scales_count_the_coordinates_that_each_kept_one_stands_for(dtype):
    # A complex coordinate is two numbers of which both are kept.
    tree = abstract([(256, 512), (7,)], dtype)
    for fraction in (1.0, 1 / 64):
        ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), tree)
        kept = sketch.take(ones, fraction)
        for whole, part, scale in zip(
            ones, kept, sketch.scales(ones, kept), strict=True
        ):
            square = scale * float(jnp.sum(part * part))
            assert square == pytest.approx(math.prod(whole.shape))


@pytest.mark.parametrize(
    "spec", [P("x", None), P(None, "x"), P("x", "y"), P(("x", "y"))]
)
def test_a_shard_keeps_its_own_share(spec):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        leaf = jnp.zeros((256, 512), out_sharding=NamedSharding(mesh, spec))
        kept = jax.jit(lambda x: sketch.take([x], 1 / 64)[0])(leaf)
        assert jax.typeof(kept).sharding.spec == jax.typeof(leaf).sharding.spec
        assert kept.addressable_shards[0].data.size == kept.size // (
            leaf.size // leaf.addressable_shards[0].data.size
        )


@pytest.mark.parametrize("rows, shards", [(264, 8), (50304, 16), (792, 8)])
def test_a_stride_divides_the_shard_it_runs_through(rows, shards):
    # Under GSPMD nothing tells the sharding, so every usual one must be respected.
    (kept,) = jax.eval_shape(lambda x: sketch.take(x, 1 / 64), abstract([(rows, 768)]))
    stride = rows // kept.shape[0]
    assert (rows // shards) % stride == 0


def test_a_cosine_weighs_small_leaves_no_more_than_large_ones():
    # 4,096 coordinates that agree, of which a sixteenth is kept, and 16 that oppose.
    a = {"large": jnp.ones((64, 64)), "small": jnp.ones(16)}
    b = {"large": jnp.ones((64, 64)), "small": -jnp.ones(16)}
    kept = [sketch.take(tree, 1 / 64) for tree in (a, b)]
    assert (kept[0]["large"].size, kept[0]["small"].size) == (256, 16)
    x, y = kept
    products = sketch.inner_products([(x, y), (x, x), (y, y)], sketch.scales(a, x))
    cosine, known = sketch.cosines(*products)
    assert known
    np.testing.assert_allclose(cosine, (4096 - 16) / (4096 + 16), rtol=1e-6)
