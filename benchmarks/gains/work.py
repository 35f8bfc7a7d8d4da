"""Small problems, each chosen because one mechanism should help or may harm."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Params = Any
BITS = 4  # of the parity


class Work(NamedTuple):
    """A problem without instances: ten seeds differ in start and batches."""

    init: Callable[[jax.Array], Params]
    loss: Callable[[Params, jax.Array], jax.Array]  # (params, key of the batch)
    metric: Callable[[Params], jax.Array]  # lower is better
    horizon: int
    floor: float  # whatever is below it counts as it
    sgd: float  # rate of SGD with momentum .9
    adam: float


def mlp(layers: Any, x: jax.Array, unit: Callable[..., Any] = jnp.tanh) -> jax.Array:
    """A network of dense layers; linear at its end."""
    *hidden, last = layers
    for weights, bias in hidden:
        x = unit(x @ weights + bias)
    return x @ last[0] + last[1]


def mlp_of(key: jax.Array, *sizes: int) -> Any:
    """Its layers, random."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (a, b)) / np.sqrt(a), jnp.zeros(b))
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def bowl(condition: float, horizon: int, noise: float = 0.0) -> Work:
    """A quadratic with curvatures from 1 down to 1 / condition."""
    h = jnp.asarray(np.logspace(0, -np.log10(condition), 40), jnp.float32)

    def value(x):
        return 0.5 * jnp.sum(h * x * x)

    def loss(x, key):
        if not noise:
            return value(x)
        return value(x) + noise * jnp.sum(jax.random.normal(key, x.shape) * h**0.5 * x)

    def init(key):
        return jax.random.normal(key, h.shape) / h**0.25

    return Work(init, loss, value, horizon, 1e-5, 0.1, 0.01)


def waves(batch: int, rows: int, noise: float, horizon: int = 1500) -> Work:
    """Regression of two waves by a small network; ``batch`` 0 is all rows."""
    rng = np.random.default_rng(0)

    def draw(n, noise):
        x = rng.uniform(-1, 1, (n, 2))
        y = np.sin(4 * x[:, :1] + x[:, 1:]) + 0.5 * np.cos(6 * x[:, 1:])
        y = y + noise * rng.normal(size=y.shape)
        return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)

    x, y = draw(rows, noise)
    test = draw(256, 0.0) if noise else (x, y)

    def error(params, x, y):
        return jnp.mean((mlp(params, x) - y) ** 2)

    def loss(params, key):
        if not batch:
            return error(params, x, y)
        at = jax.random.randint(key, (batch,), 0, rows)
        return error(params, x[at], y[at])

    return Work(
        lambda key: mlp_of(key, 2, 24, 24, 1),
        loss,
        lambda params: error(params, *test),
        horizon,
        1e-4 if noise else 1e-6,
        0.03,
        0.003,
    )


def poisson() -> Work:
    """A physics-informed network for u'' = f on 48 fixed points."""
    x = jnp.linspace(0.0, 1.0, 48)

    def u(params, at):
        return mlp(params, at[None, None])[0, 0]

    def residual(params, key):
        del key
        bent = jax.vmap(jax.grad(jax.grad(u, 1), 1), (None, 0))(params, x)
        inside = bent + (2 * jnp.pi) ** 2 * jnp.sin(2 * jnp.pi * x)
        edges = u(params, x[0]) ** 2 + u(params, x[-1]) ** 2
        return jnp.mean(inside**2) / 400 + edges

    return Work(
        lambda key: mlp_of(key, 1, 20, 20, 1),
        residual,
        lambda params: residual(params, None),
        1500,
        1e-7,
        0.003,
        0.003,
    )


def factors(scale: float, horizon: int = 1500) -> Work:
    """A matrix of rank 4 as a product, from factors of size ``scale``."""
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(20, 4)) * [1, 0.6, 0.3, 0.15] @ rng.normal(size=(4, 20))
    target = jnp.asarray(wide / np.sqrt(20), jnp.float32)

    def init(key):
        a, b = jax.random.split(key)
        return scale * jax.random.normal(a, (20, 4)), scale * jax.random.normal(
            b, (4, 20)
        )

    def value(params):
        return 0.5 * jnp.sum((params[0] @ params[1] - target) ** 2)

    return Work(
        init, lambda params, key: value(params), value, horizon, 1e-8, 0.1, 0.01
    )


def classes(batch: int) -> Work:
    """Five classes that overlap, in minibatches."""
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=(20, 5)), rng.normal(size=(1024, 20))
    x = x * np.logspace(0, -1.5, 20)
    odds = np.exp(2 * x @ w)
    labels = [rng.choice(5, p=row / row.sum()) for row in odds]
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(labels)

    def entropy(params, x, y):
        logs = jax.nn.log_softmax(mlp(params, x))
        return -jnp.mean(jnp.take_along_axis(logs, y[:, None], 1))

    def loss(params, key):
        at = jax.random.randint(key, (batch,), 0, 512)
        return entropy(params, x[at], y[at])

    return Work(
        lambda key: mlp_of(key, 20, 16, 5),
        loss,
        lambda params: entropy(params, x[512:], y[512:]),
        1500,
        1e-3,
        0.05,
        0.003,
    )


def twins() -> Work:
    """A wave by a two-layer network whose hidden units all start alike."""
    x = jnp.linspace(-1.0, 1.0, 64)[:, None]
    y = jnp.sin(4 * x)

    def init(key):
        a, b = jax.random.normal(key, (2,))
        return [
            (jnp.full((1, 16), a), jnp.full(16, 0.1 * b)),
            (jnp.full((16, 1), 0.1), jnp.zeros(1)),
        ]

    def value(params):
        return jnp.mean((mlp(params, x) - y) ** 2)

    return Work(init, lambda params, key: value(params), value, 2000, 1e-5, 0.03, 0.003)


def parity(unit: Callable[..., Any], batch: int) -> Work:
    """The parity of four bits by a network that starts at zero: an exact saddle."""
    x = np.asarray(np.meshgrid(*[[-1.0, 1.0]] * BITS)).reshape(BITS, -1).T
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(x.prod(1, keepdims=True))

    def init(key):
        return jax.tree.map(jnp.zeros_like, mlp_of(key, BITS, 24, 1))

    def error(params, x, y):
        return jnp.mean((mlp(params, x, unit) - y) ** 2)

    def loss(params, key):
        at = jax.random.permutation(key, len(x))[:batch] if batch else slice(None)
        return error(params, x[at], y[at])

    return Work(init, loss, lambda p: error(p, x, y), 3000, 1e-4, 0.03, 0.003)


LONGER_MEMORY: dict[str, Callable[[], Work]] = {
    "quadratic, condition 1e4": lambda: bowl(1e4, 700),
    "quadratic, condition 1e6": lambda: bowl(1e6, 1500),
    "full-batch regression": lambda: waves(0, 256, 0.0),
    "physics-informed network": poisson,
    "matrix factorization": lambda: factors(0.1),
    "large batches, 128 of 512": lambda: waves(128, 512, 0.1),
}
"""Where momentum should help."""

SADDLES: dict[str, Callable[[], Work]] = {
    "factorization from zero": lambda: factors(0.0),
    "factorization from 1e-6": lambda: factors(1e-6),
    "equal hidden units": twins,
    "tanh parity from zero": lambda: parity(jnp.tanh, 0),
    "the same in minibatches": lambda: parity(jnp.tanh, 4),
    "ReLU parity from zero": lambda: parity(jax.nn.relu, 0),
}
"""Where noise should help."""

MINIBATCHES: dict[str, Callable[[], Work]] = {
    "noisy quadratic": lambda: bowl(1e2, 1500, noise=1.0),
    "regression, batches of 8": lambda: waves(8, 2048, 0.2),
    "classes, batches of 16": lambda: classes(16),
}
"""Where neither should do anything."""
