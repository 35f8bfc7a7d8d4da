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

WIDTH, BATCH, LAYERS = 8, 4, 3
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


def matrix(seed: int, *shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return (jax.random.normal(jax.random.key(seed), shape) / 3).astype(dtype)


def inputs(seed: int = 7) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (BATCH, WIDTH))


def layers(dtype: Any = jnp.float32) -> dict[str, Any]:
    blocks = [
        {"w": matrix(i, WIDTH, WIDTH, dtype=dtype), "b": jnp.full(WIDTH, 0.1, dtype)}
        for i in range(LAYERS)
    ]
    return {
        "blocks": blocks,
        "embed": matrix(10, WIDTH, WIDTH, dtype=dtype),
        "head": matrix(11, WIDTH, 2, dtype=dtype),
    }


def stacked_layers() -> dict[str, Any]:
    params = layers()
    params["blocks"] = jax.tree.map(lambda *x: jnp.stack(x), *params["blocks"])
    return params


def dense(x: jax.Array, p: dict[str, jax.Array]) -> jax.Array:
    return jax.nn.gelu(x @ p["w"] + p["b"])


def unrolled(params, x, layer=dense):
    x = jnp.tanh(x.astype(params["embed"].dtype) @ params["embed"])
    for p in params["blocks"]:
        x = x + layer(x, p)
    return jnp.mean(jnp.square(x @ params["head"])).astype(jnp.float32)


def scanned(params, x, layer=dense, **options):
    x = jnp.tanh(x @ params["embed"])
    x, _ = jax.lax.scan(
        lambda x, p: (x + layer(x, p), None), x, params["blocks"], **options
    )
    return jnp.mean(jnp.square(x @ params["head"]))


def nested(params, x):
    """A scan in a scan, over the rows of the input and over the layers."""

    def row(total, one):
        one, _ = jax.lax.scan(lambda x, p: (dense(x, p), x[0]), one, params["blocks"])
        return total + one, one

    total, each = jax.lax.scan(row, jnp.zeros(WIDTH), x @ params["embed"])
    return jnp.mean(jnp.square(total @ params["head"])) + jnp.mean(each)


def backwards(params, x):
    """The last layer first: row i of a gradient is of another iteration."""
    last_first = jax.tree.map(lambda w: 2 * jnp.flip(w, 0), params["blocks"])
    return scanned({**params, "blocks": last_first}, x)


def columns(params, x):
    """Each layer scales by a sum of all rows: no row is of one iteration alone."""

    def layer(x, gain):
        return x + jnp.tanh(gain * (x @ params["embed"])), None

    x, _ = jax.lax.scan(layer, x, params["blocks"]["gains"].sum(0))
    return jnp.mean(jnp.square(x @ params["head"]))


def recurrent(params, x):
    """Weights shared by all iterations: their gradients are carried."""

    def cell(state, x):
        state = jnp.tanh(state @ params["recur"] + x @ params["embed"])
        return state, state @ params["head"]

    last, outputs = jax.lax.scan(cell, jnp.zeros(WIDTH), x)
    return jnp.mean(jnp.square(outputs)) + jnp.mean(last)


@jax.custom_vjp
def clipped_backwards(x):
    return x


clipped_backwards.defvjp(
    lambda x: (x, x), lambda x, g: (jnp.clip(g, -1.0, 1.0) + 0 * jnp.sin(x),)
)


@jax.custom_jvp
def smooth_relu(x):
    return jnp.maximum(x, 0.0)


smooth_relu.defjvp(lambda x, dx: (smooth_relu(x[0]), jax.nn.sigmoid(4 * x[0]) * dx[0]))


def branching(params, x):
    x = jnp.tanh(x @ params["embed"])
    for i, p in enumerate(params["blocks"]):
        x = jax.lax.cond(
            x[0, 0] > 0.1 * i, functools.partial(dense, p=p), lambda x: x, x
        )
        x = jax.lax.fori_loop(0, 2, lambda _, x: 0.9 * x, x)
    steps = jax.lax.while_loop(lambda n: n < 3, lambda n: n + 1, 0)
    return jnp.mean(jnp.square(x @ params["head"])) * steps


def attention(params, x):
    x = x @ params["embed"]
    for p in params["blocks"]:
        q, k, v = x @ p["w"], x * p["b"], x
        x = x + jax.nn.softmax(q @ k.T) @ v
    table = params["table"][jnp.argmax(x, -1)]
    return jnp.mean(jnp.square((x + table) @ params["head"]))


def convolution(params, x):
    image = x.reshape(1, BATCH, WIDTH, 1)
    for kernel in params["kernels"]:
        image = jax.nn.relu(
            jax.lax.conv_general_dilated(
                image,
                kernel,
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        )
    pooled = jax.lax.reduce_window(
        image, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    return jnp.mean(pooled @ params["head"])


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
