"""Paths, patterns and block labels of every kind of parameters."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import adaptive_optax as ao
from adaptive_optax.freeze import labels

GPT = {
    "embed": {"words": 0.0},
    "blocks": [{"attend": {"kernel": 0.0}, "scale": 0.0}, {"scale": 0.0}],
    "head": 0.0,
}


def test_paths_and_blocks_of_containers():
    assert labels.leaf_paths(GPT) == [
        "blocks/0/attend/kernel",
        "blocks/0/scale",
        "blocks/1/scale",
        "embed/words",
        "head",
    ]
    assert jax.tree.leaves(ao.block_labels(GPT)) == [
        "blocks/0",
        "blocks/0",
        "blocks/1",
        "embed",
        "head",
    ]
    assert jax.tree.leaves(ao.block_labels(GPT, depth=1)) == [
        *["blocks"] * 3,
        "embed",
        "head",
    ]
    assert labels.leaf_paths(jnp.ones(2)) == ["params"]
    assert ao.block_labels(jnp.ones(2)) == "params"


def test_leaves_that_are_numbered_themselves_are_of_one_block():
    assert ao.block_labels({"tables": [0.0, 0.0]}) == {"tables": ["tables"] * 2}


def test_linen_and_nnx():
    linen = {
        "params": {"Dense_0": {"kernel": 0.0, "bias": 0.0}, "norm": {"scale": 0.0}}
    }
    assert jax.tree.leaves(ao.block_labels(linen)) == [
        *["params/Dense_0"] * 2,
        "params/norm",
    ]

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(2)])
            self.head = nnx.Linear(2, 2, rngs=rngs)

    _, params = nnx.split(Model(nnx.Rngs(0)), nnx.Param)
    assert labels.leaf_paths(params) == [
        "head/bias",
        "head/kernel",
        "layers/0/bias",
        "layers/0/kernel",
        "layers/1/bias",
        "layers/1/kernel",
    ]
    found = jax.tree.leaves(ao.block_labels(params))
    assert found == [*["head"] * 2, *["layers/0"] * 2, *["layers/1"] * 2]
    assert jax.tree.structure(ao.block_labels(params)) == jax.tree.structure(params)


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("head/kernel", "head", True),
        ("header/kernel", "head", False),
        ("blocks/0/norm/scale", "blocks/*/norm", True),
        ("blocks/0/attend/scale", "blocks/*/norm", False),
        ("blocks/0/norm/scale", "*/scale", True),
        ("head", "head", True),
    ],
)
def test_patterns_match_leaves_and_modules(path, pattern, expected):
    assert labels.matches(path, [pattern]) is expected


def test_a_bad_depth():
    with pytest.raises(ValueError, match="`depth`.*0"):
        ao.block_labels(GPT, depth=0)
