"""Floating-point operations, and the share of them that freezing saves."""

import functools

import jax
import jax.numpy as jnp
import pytest

import adaptive_optax as ao
from tests.freeze.losses import dense, inputs, layers, scanned, stacked_layers, unrolled
from tests.freeze.masking import EVERY, assert_close


def test_flops_of_a_multilayer_perceptron():
    def loss(params, x):
        for w in params:
            x = x @ w
        return jnp.sum(x)

    params = [jnp.ones((16, 16)) for _ in range(3)]
    x = jnp.ones((4, 16))
    product = 2 * 4 * 16 * 16
    count = ao.frozen_value_and_grad(loss, **EVERY).flops(params, x)
    assert count.forward == pytest.approx(3 * product, rel=0.05)
    assert count.backward == pytest.approx(5 * product, rel=0.2)
    each = count.saved_by_each()
    # The first layer alone saves its weight gradient and what leads only there.
    assert each["0"] == pytest.approx(2 * product, rel=0.2)
    assert each["1"] == each["2"] == pytest.approx(product, rel=0.3)
    assert count.saved("0", "1") == pytest.approx(4 * product, rel=0.2)
    assert count.saved("0", "1", "2") == pytest.approx(count.backward, rel=0.1)
    assert count.saved() == 0.0
    share = count.share([True, True, jnp.asarray(False)], ["0", "1", "2"])
    assert share == pytest.approx(count.saved("0", "1") / count.backward)


def test_flops_see_into_a_scan():
    flat = ao.frozen_value_and_grad(
        unrolled, ao.block_labels(layers(), depth=1), **EVERY
    ).flops(layers(), inputs())
    params = stacked_layers()
    scan = ao.frozen_value_and_grad(
        scanned, ao.block_labels(params, depth=1), **EVERY
    ).flops(params, inputs())
    for labels in (["blocks"], ["blocks", "embed"]):
        assert scan.saved(*labels) == pytest.approx(flat.saved(*labels), rel=0.2)


def test_the_new_remat_of_jax_changes_no_share_that_freezing_saves():
    if not hasattr(jax.config, "jax_remat3"):
        pytest.skip("this JAX has one implementation of remat")
    params, x = layers(), inputs()
    remat = functools.partial(unrolled, layer=jax.checkpoint(dense))
    half = {"embed", "blocks/0", "blocks/1"}

    def measured():
        vg = ao.frozen_value_and_grad(remat, ao.block_labels(params), **EVERY)
        count = vg.flops(params, x)
        frozen = jax.tree.map(lambda label: label in half, ao.block_labels(params))
        return count.saved(*half) / count.backward, vg(params, frozen, x)

    (old, expected), _ = measured(), jax.config.update("jax_remat3", True)
    try:
        new, found = measured()
    finally:
        jax.config.update("jax_remat3", False)
    assert new == pytest.approx(old, abs=0.05)
    assert_close(found, expected, rtol=1e-5)
