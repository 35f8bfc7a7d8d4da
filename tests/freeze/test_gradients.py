"""The gradient that skips is that of masking, for every construct and any graph."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptive_optax as ao
from tests.freeze.frozen_models import MOST_DIFFERENT, models, random_mask
from tests.freeze.losses import LAYERS, inputs
from tests.freeze.masking import EVERY, assert_close, masking, quick_jit
from tests.helpers import few

MODELS = models()


@pytest.mark.parametrize(
    "name", few(MODELS, (*MOST_DIFFERENT, "attention and gather", "bfloat16"))
)
def test_gradients_of_every_construct(name):
    model, rng, x = MODELS[name](), np.random.default_rng(0), inputs()
    want = quick_jit(masking(model.loss, model.has_aux))
    vg = ao.frozen_value_and_grad(
        model.loss, ao.block_labels(model.params), has_aux=model.has_aux, **EVERY
    )
    ours = quick_jit(vg)
    for share in (0.0, 0.5, 0.5, 0.8, 0.8, 1.0):
        mask = random_mask(model, rng, share)
        assert_close(ours(model.params, mask, x), want(model.params, mask, x))
    assert ours._cache_size() == 1, "compiled again for another mask"
    # Known while tracing: nothing is left to decide.
    known = jax.tree.map(np.asarray, random_mask(model, rng, 0.3))
    static = quick_jit(lambda params, x: vg(params, known, x))
    assert_close(static(model.params, x), want(model.params, known, x))


@pytest.mark.parametrize("name", ["scan", "scan, backwards and unrolled"])
def test_gradients_of_every_set_of_frozen_layers(name):
    # With all else frozen a cotangent is for the layers before it alone.
    model, x = MODELS[name](), inputs()
    vg = ao.frozen_value_and_grad(model.loss, ao.block_labels(model.params), **EVERY)
    ours, want = quick_jit(vg), quick_jit(masking(model.loss))
    for frozen in itertools.product([False, True], repeat=LAYERS):
        mask = jax.tree.map(lambda _: jnp.asarray(True), model.params)
        mask["blocks"] = jax.tree.map(
            lambda _, now=frozen: jnp.asarray(now), model.params["blocks"]
        )
        assert_close(ours(model.params, mask, x), want(model.params, mask, x))


@st.composite
def graphs(draw):
    """A random DAG: every node mixes earlier ones by a weight, shared or its own."""
    n_weights = draw(st.integers(1, 4))
    nodes = []
    for i in range(draw(st.integers(2, 7))):
        earlier = st.integers(0, i)
        nodes.append(
            (
                draw(st.sampled_from(["dot", "add", "gate", "remat", "scale"])),
                draw(earlier),
                draw(earlier),
                draw(st.integers(0, n_weights - 1)),
            )
        )
    masks = draw(st.lists(st.booleans(), min_size=n_weights, max_size=n_weights))
    labels = draw(st.lists(st.integers(0, 2), min_size=n_weights, max_size=n_weights))
    return n_weights, nodes, masks, labels, draw(st.booleans())


@settings(max_examples=10, deadline=None)
@given(graphs())
def test_random_graphs_and_masks(graph):
    n_weights, nodes, masks, labels, recompute = graph
    params = [
        0.5 * jax.random.normal(jax.random.key(i), (8, 8)) for i in range(n_weights)
    ]

    def loss(params, x):
        values = [x]
        for kind, a, b, w in nodes:
            first, second, weight = values[a], values[b], params[w]
            values.append(
                {
                    "dot": lambda x, y, w: jnp.tanh(x @ w) + y,
                    "add": lambda x, y, w: x + y + w[0],
                    "gate": lambda x, y, w: x * jax.nn.sigmoid(y @ w),
                    "remat": jax.checkpoint(lambda x, y, w: jnp.sin(x @ w) * y),
                    "scale": lambda x, y, w: x * w.mean() - y,
                }[kind](first, second, weight)
            )
        return jnp.mean(jnp.square(values[-1]))

    vg = ao.frozen_value_and_grad(loss, labels, recompute=recompute, **EVERY)
    frozen = [jnp.asarray(mask) for mask in masks]
    got = quick_jit(vg)(params, frozen, inputs())
    assert_close(got, quick_jit(masking(loss))(params, frozen, inputs()), rtol=2e-6)
