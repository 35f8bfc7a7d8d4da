"""A stream whose teacher turns slowly, all the time.

The minimum moves by a little at every step and never stops: the gradual drift of Gama
et al., 2014, "A survey on concept drift adaptation". Who averages or anneals falls
behind. The world draws the teacher, the angle that it turns by over the run (an eighth
to a half of a circle), the noise and the scale of the initialisation; the student is an
MLP. There are two tasks.

- Regression: the targets are a tanh network of 16 Gaussian inputs plus noise, and its
  weights turn from one random set towards another. Metric: squared error on 256
  noise-free examples of the present teacher, over the variance of its targets.
- Classification: five Gaussian classes in 16 dimensions, and the mean of each turns
  within its own random plane. Metric: the mean KL divergence of the model from the true
  posterior, which is known, at 256 fixed draws of the present distribution.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contract import Family, Problem, Shape
from benchmarks.families import _layers, _random

INPUTS, HIDDEN, CLASSES, TEST = 16, 8, 5, 256


class World(NamedTuple):
    ends: tuple[jax.Array, ...]  # each f32[2, ...], what the teacher turns between
    turn: jax.Array  # f32[], radians per step
    noise: jax.Array  # f32[], of a target, or the radius that the classes turn on
    gain: jax.Array  # f32[], of the initialisation


def present(world: World, step: jax.Array) -> list[jax.Array]:
    """What the teacher is at this step."""
    share = jnp.stack([jnp.cos(world.turn * step), jnp.sin(world.turn * step)])
    return [jnp.tensordot(share, both, 1) for both in world.ends]


def teach(teacher: list[jax.Array], x: jax.Array) -> jax.Array:
    first, second = teacher
    return jnp.tanh(x @ first) @ second


def build(shape: Shape) -> Problem:
    size, horizon = shape["batch"], shape["horizon"]
    classify = shape["task"] == "classification"
    activation = jax.nn.relu if classify else jnp.tanh
    sizes = (INPUTS, shape["width"], CLASSES if classify else 1)
    rng = np.random.default_rng(1)
    test_noise = rng.normal(size=(TEST, INPUTS)).astype(np.float32)
    test_labels = np.arange(TEST) % CLASSES

    def ends(first, second):
        if classify:  # pairs of orthogonal unit vectors
            here, aside = first[..., 0, :], first[..., 1, :]
            here = here / jnp.linalg.norm(here, axis=-1, keepdims=True)
            aside = aside - jnp.sum(here * aside, -1, keepdims=True) * here
            aside = aside / jnp.linalg.norm(aside, axis=-1, keepdims=True)
            return (jnp.stack([here, aside]),)
        # Both teachers are given targets of variance 1.
        first = 1.5 * first / INPUTS**0.5
        targets = jnp.stack([teach([first[i], second[i]], test_noise) for i in (0, 1)])
        return first, second / jnp.std(targets, axis=1)[:, None]

    def world(key):
        first = (CLASSES, 2, INPUTS) if classify else (2, INPUTS, HIDDEN)
        first, second, scalars = _random.normal(key, first, (2, HIDDEN), (3,))
        turn, noise, gain = jax.scipy.stats.norm.cdf(scalars)
        return World(
            ends=ends(first, second),
            turn=0.25 * jnp.pi * 4.0**turn / horizon,
            noise=1.5 + noise if classify else 0.1 + 0.3 * noise,
            gain=2.0 ** (2.0 * gain - 0.5),
        )

    def batch(key, step, world):
        key = jax.random.fold_in(key, step)
        x, noise = _random.normal(key, (size, INPUTS), (size,))
        teacher = present(world, step)
        if not classify:
            return x, teach(teacher, x) + world.noise * noise
        labels = _random.integers(jax.scipy.stats.norm.cdf(noise), CLASSES)
        return world.noise * teacher[0][labels] + x, labels

    def loss(params, batch, key):
        del key
        x, targets = batch
        outputs = _layers.mlp(params, x, activation)
        if classify:
            return _layers.cross_entropy(outputs, targets), None
        return 0.5 * jnp.mean((outputs[:, 0] - targets) ** 2), None

    def metric(params, step, world):
        teacher = present(world, step)
        if not classify:
            targets = teach(teacher, test_noise)
            error = _layers.mlp(params, test_noise, activation)[:, 0] - targets
            return jnp.mean(error**2) / jnp.var(targets)
        centres = world.noise * teacher[0]
        x = centres[test_labels] + test_noise
        # The classes are equally likely and as wide, so the posterior is a softmax.
        posterior = jax.nn.log_softmax(x @ centres.T - 0.5 * jnp.sum(centres**2, -1))
        model = jax.nn.log_softmax(_layers.mlp(params, x, activation))
        return jnp.mean(jnp.sum(jnp.exp(posterior) * (posterior - model), -1))

    return Problem(
        horizon=horizon,
        batch_size=size,
        world=world,
        init=lambda key, world: _layers.init_mlp(key, sizes, gain=world.gain),
        batch=batch,
        loss=loss,
        metric=metric,
        metric_name="KL from the posterior" if classify else "relative squared error",
        # A tenth of the variance of a middling noise, of which nobody sees enough for
        # less; the drift of the posterior between two evaluations costs as much.
        floor=0.01 if classify else 0.005,
    )


FAMILY = Family(
    trade="streams",
    shapes={
        "task": ("regression", "classification"),
        "width": (16, 32),
        "batch": (8, 16, 32),
        "horizon": (500, 1200, 3000),
    },
    build=build,
)
