"""A sensor fed with whole streams, its twin, and streams to feed both with."""

import functools
import operator

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from adaptive_optax.sense import sensor as sensing
from tests.sense import sensor_twin

PARAMS = {"w": jnp.zeros((3, 4)), "b": jnp.zeros(5)}


@functools.partial(jax.jit, static_argnames=("fraction", "decay"))
def read(losses, rewards, gradients, steps, restored, *, fraction=1.0, decay=0.9):
    """All signals of a stream of raw feedback, stacked, and the last state."""

    def tree(flat):
        return {"b": flat[:5], "w": flat[5:].reshape(3, 4)}

    def step(state, fed):
        loss, reward, flat_grad, flat_step, again = fed
        grads = tree(flat_grad)
        norms = sensing.gradient_norms(grads)
        grads = jax.tree.map(lambda g: jnp.where(norms.finite, g, 0.0), grads)
        signals, _, state = sensing.measure(
            state,
            grads,
            norms,
            value=loss,
            reward=reward,
            fraction=fraction,
            decay=decay,
        )
        state = sensing.record_step(state, tree(flat_step), again, fraction=fraction)
        return state, signals

    start = sensing.init_sensor(PARAMS, fraction)
    last, signals = jax.lax.scan(
        step, start, (losses, rewards, gradients, steps, restored)
    )
    return signals, last


def stream(seed, length=500):
    """Falling through zero, spikes, NaN and inf, a stretch in bfloat16, restores."""
    rng = np.random.default_rng(seed)

    def spoilt(x):
        x = x.copy()
        x[rng.random(length) < 0.02] = np.nan
        x[rng.random(length) < 0.02] = np.inf
        x[rng.random(length) < 0.01] = -np.inf
        return x

    losses = 2.0 - 4.0 * np.arange(length) / length + 0.2 * rng.normal(size=length)
    losses += (rng.random(length) < 0.02) * rng.normal(size=length) * 10
    rewards = np.cumsum(rng.normal(size=length)) + rng.normal(size=length)
    gradients = rng.normal(size=(length, 17)) * np.exp(rng.normal(size=(length, 1)))
    steps = -0.01 * (gradients + rng.normal(size=(length, 17)))
    gradients[rng.random(length) < 0.02, 3] = np.nan
    gradients[rng.random(length) < 0.02, 7] = np.inf
    gradients[rng.random(length) < 0.02] = 0.0
    steps[rng.random(length) < 0.02] = 0.0
    rewards[:9] = np.nan
    raw = [spoilt(losses), spoilt(rewards), gradients, steps]
    middle = slice(length // 3, 2 * length // 3)
    for each in raw:
        each[middle] = each[middle].astype(ml_dtypes.bfloat16)
    return [np.float32(each) for each in raw] + [rng.random(length) < 0.01]


def twin(losses, rewards, gradients, steps, restored, decay=0.9):
    """The twin's readings, one dict a step."""
    fed = zip(*(np.float64(x) for x in (losses, rewards, gradients)), strict=True)
    taken = zip(np.float64(steps), restored, strict=True)
    return list(sensor_twin.read(fed, taken, decay))


def reading(signals, name):
    """``loss.trend`` of the signals."""
    return operator.attrgetter(name)(signals)


def quiet(losses, rewards=None, gradients=None, steps=None):
    n = len(losses)
    fill = np.full((n, 17), 1.0, np.float32)
    return (
        np.float32(losses),
        np.float32(np.zeros(n) if rewards is None else rewards),
        fill if gradients is None else np.float32(gradients),
        -fill if steps is None else np.float32(steps),
        np.zeros(n, bool),
    )


def noisy_fall(n=200, seed=3):
    rng = np.random.default_rng(seed)
    return 1.0 - np.arange(n) / n + 0.1 * rng.normal(size=n)
