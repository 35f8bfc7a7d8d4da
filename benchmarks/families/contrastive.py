"""Contrastive learning: which two views are of the same digit?

An MLP maps 8x8 digits to the unit sphere. Two views of an image each keep a random
share of the pixels, and the loss is InfoNCE (van den Oord, Li & Vinyals, 2018,
"Representation learning with contrastive predictive coding") in the symmetric form of
SimCLR and CLIP: a view has to find its partner among the others of the batch, so the
level of the loss depends on the batch size. The world draws 1000 training images with
replacement, the share of the pixels that a view keeps (.4 to .8), the temperature (.1
to .2) and the scale of the initialisation. Metric: the same loss on 128 held-out digits
with fixed views.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _data, _layers, _random

PIXELS, EXAMPLES, TEST = 64, 1000, 128


class World(NamedTuple):
    x: jax.Array  # f32[examples, 64]
    kept: jax.Array  # f32[], share of the pixels that a view shows
    temperature: jax.Array  # f32[]
    gain: jax.Array  # f32[], of the initialisation


def build(shape: Shape) -> Problem:
    data = _data.digits()
    size = shape["batch"]
    sizes = (PIXELS, *[shape["width"]] * shape["depth"], shape["code"])
    test_x = data.test_x[:TEST]
    rng = np.random.default_rng(0)
    test_chances = rng.uniform(size=(2, TEST, PIXELS)).astype(np.float32)

    def world(key):
        chances, scalars = _random.uniform(key, (EXAMPLES,), (3,))
        return World(
            x=jnp.asarray(data.x)[_random.integers(chances, len(data.x))],
            kept=0.4 + 0.4 * scalars[0],
            temperature=0.1 * 2.0 ** scalars[1],
            gain=2.0 ** (2.0 * scalars[2] - 0.5),
        )

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        chances, shown = _random.uniform(key, (size,), (2, size, PIXELS))
        x = world.x[_random.integers(chances, EXAMPLES)]
        return jnp.where(shown < world.kept, x, 0.0), world.temperature

    def info_nce(params, views, temperature):
        """Views f32[2, n, 64]; in nats, the mean over images and both directions."""
        codes = _layers.mlp(params, views)
        length = jnp.sum(codes**2, -1, keepdims=True)
        one, other = codes * jax.lax.rsqrt(length + 1e-6)
        logits = one @ other.T / temperature
        partners = jnp.arange(len(logits))
        there = _layers.cross_entropy(logits, partners)
        back = _layers.cross_entropy(logits.T, partners)
        return 0.5 * (there + back)

    def metric(params, step, world):
        del step
        views = jnp.where(test_chances < world.kept, test_x, 0.0)
        return info_nce(params, views, world.temperature)

    return Problem(
        horizon=shape["horizon"],
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=lambda params, batch, key: (info_nce(params, *batch), None),
        metric=metric,
        metric_name="held-out InfoNCE",
        # About the standard error over 128 digits.
        floor=0.05,
    )


FAMILY = Family(
    trade="contrastive",
    shapes={
        "width": (16, 24, 32),
        "depth": (1, 2),
        "code": (8, 16),
        "batch": (16, 32),
        "horizon": (160, 320, 640),
    },
    build=build,
)
