"""The streams: every example comes once, and what is to be learnt moves.

Four kinds of learner, and for each some streams that differ in numbers only, so that
all of a kind train in one program. A *switch* is an abrupt change: a new target, or
every class under another's name. A *drift* turns the target by a little at each step.
The numbers of `online_sgd` and `online_adagrad` were chosen on the development streams,
and on none of those that are held out. Twice the held-out streams showed what was still
wrong with a classifier at batch 1. They had been used then, and others, drawn up before
the next change was scored, have taken their place.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.families import _data, _layers, _random

INPUTS, ANGLES, HIDDEN = 20, 24, 16
NEVER = 1e9


class Moves(NamedTuple):
    """The numbers of a stream."""

    drift: Any = 0.0  # share of the target that is new at each step, in its root
    period: Any = NEVER  # steps between two switches
    rest: Any = NEVER  # steps of drift, then as many without, and so on
    noise: Any = 0.3  # of the targets; of the pixels; share of random labels
    outliers: Any = 0.0  # share of the targets whose noise is ten times as large
    spread: Any = 0.0  # the inputs' scales go from 10^-spread to 10^spread


class Kind(NamedTuple):
    """A learner, and how its stream comes about."""

    steps: int
    world: Callable[[jax.Array], Any]  # key -> what the stream has to keep
    params: Callable[[jax.Array], Any]
    draw: Callable[
        ..., tuple[Any, Any]
    ]  # key, step, world, moves, size -> batch, world
    loss: Callable[[Any, Any], jax.Array]


class Stream(NamedTuple):
    """One stream."""

    name: str
    kind: str
    moves: Moves
    held_out: bool


def _moved(old: jax.Array, new: jax.Array, step: jax.Array, moves: Moves) -> jax.Array:
    """The target after its drift, or the new one at a switch."""
    drifts = (step // moves.rest) % 2 == 0
    share = jnp.where(drifts, moves.drift, 0.0)
    turned = jnp.sqrt(1 - share**2) * old + share * new
    return jnp.where((step > 0) & (step % moves.period == 0), new, turned)


def _scales(moves: Moves) -> jax.Array:
    return 10.0 ** (moves.spread * jnp.linspace(-1.0, 1.0, INPUTS))


def _regression() -> Kind:
    def draw(key, step, world, moves, size):
        x, noise, chance, new = _random.normal(
            key, (size, INPUTS), (size,), (size,), (INPUTS,)
        )
        target = _moved(world, new / INPUTS**0.5, step, moves)
        far = jax.scipy.stats.norm.cdf(chance) < moves.outliers
        noise = moves.noise * noise * jnp.where(far, 10.0, 1.0)
        return (x * _scales(moves), x @ target + noise), target

    def loss(params, batch):
        x, y = batch
        return 0.5 * jnp.mean((x @ params - y) ** 2)

    return Kind(
        steps=5_000,
        world=lambda key: jax.random.normal(key, (INPUTS,)) / INPUTS**0.5,
        params=lambda key: jnp.zeros(INPUTS),
        draw=draw,
        loss=loss,
    )


def _classes(classes: int) -> Kind:
    shape = classes, INPUTS

    def draw(key, step, world, moves, size):
        x, label, chance, other, new = _random.normal(
            key, (size, INPUTS), (size,), (size,), (size,), shape
        )
        centres = _moved(world, new, step, moves._replace(period=NEVER))
        chosen = [
            _random.integers(jax.scipy.stats.norm.cdf(z), classes)
            for z in (label, other)
        ]
        x = (x + 0.6 * centres[chosen[0]]) * _scales(moves)
        wrong = jax.scipy.stats.norm.cdf(chance) < moves.noise
        named = (chosen[0] + (step // moves.period).astype(jnp.int32)) % classes
        return (x, jnp.where(wrong, chosen[1], named)), centres

    def loss(params, batch):
        x, labels = batch
        return _layers.cross_entropy(x @ params["w"] + params["b"], labels)

    return Kind(
        steps=5_000,
        world=lambda key: jax.random.normal(key, shape),
        params=lambda key: {
            "w": jnp.zeros((INPUTS, classes)),
            "b": jnp.zeros(classes),
        },
        draw=draw,
        loss=loss,
    )


@functools.cache
def _turned() -> tuple[np.ndarray, np.ndarray]:
    """f32[angles, images, 64]: the digits, turned; and their labels."""
    import scipy.ndimage

    split = _data.digits()
    images = np.concatenate([split.x, split.test_x]).reshape(-1, 8, 8)
    labels = np.concatenate([split.labels, split.test_labels])
    turned = [
        scipy.ndimage.rotate(
            images, 360.0 * i / ANGLES, axes=(1, 2), reshape=False, order=1
        )
        for i in range(ANGLES)
    ]
    return np.stack(turned).reshape(ANGLES, -1, 64).astype(np.float32), labels


def _digits() -> Kind:
    def draw(key, step, world, moves, size):
        images, labels = _turned()
        x, chance = _random.normal(key, (size, 64), (size,))
        rows = _random.integers(jax.scipy.stats.norm.cdf(chance), len(labels))
        angle = (step * moves.drift).astype(jnp.int32) % ANGLES
        named = jnp.asarray(labels)[rows] + (step // moves.period).astype(jnp.int32)
        return (jnp.asarray(images)[angle, rows] + moves.noise * x, named % 10), world

    def loss(params, batch):
        x, labels = batch
        return _layers.cross_entropy(_layers.mlp(params, x, jax.nn.relu), labels)

    return Kind(
        steps=3_000,
        world=lambda key: (),
        params=lambda key: _layers.init_mlp(key, (64, HIDDEN, 10)),
        draw=draw,
        loss=loss,
    )


KINDS = {
    "regression": _regression,
    "classes": functools.partial(_classes, 5),
    "pair": functools.partial(_classes, 2),
    "digits": _digits,
}

STREAMS = (
    Stream("at rest", "regression", Moves(), False),
    Stream("drift", "regression", Moves(drift=0.03), False),
    Stream("switch every 1000", "regression", Moves(period=1000), False),
    Stream("scales, slow drift", "regression", Moves(drift=0.01, spread=1.0), False),
    Stream("drift", "classes", Moves(drift=0.03, noise=0.0), False),
    Stream("switch every 2000", "classes", Moves(period=2000, noise=0.0), False),
    Stream("turning", "digits", Moves(drift=0.005, noise=0.1), False),
    Stream("drift", "pair", Moves(drift=0.03, noise=0.0), False),
    Stream("drift 600, rest 600", "regression", Moves(drift=0.04, rest=600), True),
    Stream("switch every 400", "regression", Moves(period=400, noise=0.2), True),
    Stream(
        "outliers, switch every 1200",
        "regression",
        Moves(period=1200, outliers=0.01),
        True,
    ),
    Stream("scales, drift", "regression", Moves(drift=0.02, spread=0.6), True),
    Stream("at rest, wrong labels", "classes", Moves(noise=0.07), True),
    Stream("drift, wrong labels", "classes", Moves(drift=0.04, noise=0.05), True),
    Stream(
        "scales, switch every 900",
        "classes",
        Moves(period=900, noise=0.0, spread=0.4),
        True,
    ),
    Stream("switch every 1200", "pair", Moves(period=1200, noise=0.04), True),
    Stream("fast drift", "pair", Moves(drift=0.05, noise=0.02), True),
    Stream("turning fast", "digits", Moves(drift=0.02, noise=0.2), True),
)
