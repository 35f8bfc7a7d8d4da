"""Small models, one for each construct that a backward pass can be made of.

Each is a `Model`: parameters, a loss ``(params, x) -> scalar`` (or with an auxiliary
output), and which leaves are stacked over layers.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.freeze.losses import (
    LAYERS,
    WIDTH,
    attention,
    backwards,
    branching,
    clipped_backwards,
    columns,
    convolution,
    dense,
    inputs,
    layers,
    matrix,
    nested,
    recurrent,
    scanned,
    smooth_relu,
    stacked_layers,
    unrolled,
)

# They stand for all where every one would have to be compiled: layers in a loop and
# rematerialised, gradients that a loop carries, branches, and other leaves than floats.
MOST_DIFFERENT = (
    "scan + remat",
    "scan with shared weights",
    "cond and loops",
    "nnx, BatchNorm and Dropout",
)


class Model(NamedTuple):
    params: Any
    loss: Callable[..., Any]
    stacked: Callable[[str], bool] = lambda path: False
    has_aux: bool = False


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.LayerNorm()(nn.remat(nn.Dense)(WIDTH)(x))
            x = x + nn.gelu(x)
        return nn.Dense(2)(x)


class NnxModel(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        # BatchNorm takes a bias out again; its gradient would be rounding only.
        self.first = nnx.Linear(WIDTH, WIDTH, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.last = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


def linen() -> Model:
    module = LinenModel()
    variables = module.init(jax.random.key(0), inputs())
    return Model(variables, lambda v, x: jnp.mean(jnp.square(module.apply(v, x))))


def with_nnx() -> Model:
    model = NnxModel(nnx.Rngs(0))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, x):
        model = nnx.merge(graph, params, rest, copy=True)
        value = jnp.mean(jnp.square(model(x)))
        return value, nnx.state(model, nnx.Not(nnx.Param))

    return Model(params, loss, has_aux=True)


def in_blocks(path: str) -> bool:
    return path.startswith("blocks")


def models() -> dict[str, Callable[[], Model]]:
    remat_dots = jax.checkpoint(
        dense, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    )
    blocks = {"recur": matrix(3, WIDTH, WIDTH)}
    return {
        "dict": lambda: Model(layers(), unrolled),
        "bfloat16": lambda: Model(layers(jnp.bfloat16), unrolled),
        "jit inside": lambda: Model(
            layers(), functools.partial(unrolled, layer=jax.jit(dense))
        ),
        "remat": lambda: Model(
            layers(), functools.partial(unrolled, layer=jax.checkpoint(dense))
        ),
        "remat with a policy": lambda: Model(
            layers(), functools.partial(unrolled, layer=remat_dots)
        ),
        "remat of all": lambda: Model(layers(), jax.checkpoint(unrolled)),
        "scan": lambda: Model(stacked_layers(), scanned, in_blocks),
        "scan, backwards and unrolled": lambda: Model(
            stacked_layers(),
            functools.partial(scanned, reverse=True, unroll=2),
            in_blocks,
        ),
        "scan + remat": lambda: Model(
            stacked_layers(),
            functools.partial(scanned, layer=jax.checkpoint(dense)),
            in_blocks,
        ),
        "scan over layers turned round": lambda: Model(
            stacked_layers(), backwards, in_blocks
        ),
        "scan over sums of layers": lambda: Model(
            {**layers(), "blocks": {"gains": matrix(4, LAYERS, LAYERS)}},
            columns,
            in_blocks,
        ),
        "scan in a scan": lambda: Model(stacked_layers(), nested, in_blocks),
        "scan with shared weights": lambda: Model(
            {"embed": layers()["embed"], "head": layers()["head"], **blocks}, recurrent
        ),
        "custom_vjp": lambda: Model(
            layers(),
            functools.partial(
                unrolled, layer=lambda x, p: clipped_backwards(dense(x, p))
            ),
        ),
        "custom_jvp": lambda: Model(
            layers(),
            functools.partial(unrolled, layer=lambda x, p: smooth_relu(x @ p["w"])),
        ),
        "cond and loops": lambda: Model(layers(), branching),
        "attention and gather": lambda: Model(
            {**layers(), "table": matrix(12, WIDTH, WIDTH)}, attention
        ),
        "convolution": lambda: Model(
            {
                "kernels": [matrix(1, 3, 3, 1, 4), matrix(2, 3, 3, 4, 4)],
                "head": matrix(3, 4, 1),
            },
            convolution,
        ),
        "linen": linen,
        "nnx, BatchNorm and Dropout": with_nnx,
        "vmap inside": lambda: Model(
            layers(),
            lambda p, x: jnp.mean(jax.vmap(functools.partial(unrolled, p))(x[:, None])),
        ),
    }


def random_mask(model: Model, rng: np.random.Generator, share: float = 0.5) -> Any:
    """A mask of random leaves, and of random layers of the stacked ones."""
    from adaptive_optax.freeze.labels import leaf_paths

    leaves, structure = jax.tree.flatten(model.params)
    masks = []
    for path, leaf in zip(leaf_paths(model.params), leaves, strict=True):
        shape = leaf.shape[:1] if model.stacked(path) else ()
        masks.append(jnp.asarray(rng.random(shape) < share))
    return structure.unflatten(masks)
