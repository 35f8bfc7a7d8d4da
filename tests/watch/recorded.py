"""Short runs with one thing true of each, for the words that are said of them.

A network of one hidden layer on a noisy regression. One program runs all of them but
those whose optimizer is another one.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from tests.contract.driving import QUICK

STEPS, INPUTS, HIDDEN, BATCH = 300, 4, 16, 32
RATE = 0.12
JUMP = 150


class Course(NamedTuple):
    """What a run is fed with, step by step."""

    rate: np.ndarray  # f32[] base rate
    fresh: np.ndarray  # i32[n] which batch
    signal: np.ndarray  # f32[n] what the labels have to do with the inputs
    noise: np.ndarray  # f32[n] of the labels
    told: np.ndarray  # f32[n] added to the loss that is told
    gradient: np.ndarray  # f32[n] added to the gradient
    struck: np.ndarray  # f32[n] added to the biases of the hidden units


def course(rate=RATE, **columns):
    """A sound run but for what is named."""
    sound = {
        "fresh": np.arange(STEPS),
        "signal": np.ones(STEPS),
        "noise": np.full(STEPS, 0.3),
        "told": np.zeros(STEPS),
        "gradient": np.zeros(STEPS),
        "struck": np.zeros(STEPS),
    }
    columns = {
        name: np.broadcast_to(columns.get(name, x), STEPS).astype(
            np.int32 if name == "fresh" else np.float32
        )
        for name, x in sound.items()
    }
    return Course(rate=np.float32(rate), **columns)


def at(*steps, is_now, else_is=0.0):
    """A column that is something else at these steps, counted from 1 on."""
    column = np.full(STEPS, else_is, np.float32)
    column[np.asarray(steps) - 1] = is_now
    return column


COURSES = {
    "right": course(),
    "too low": course(RATE / 100),
    "too high": course(30 * RATE),
    "without noise": course(fresh=np.zeros(STEPS), noise=0.0),
    "random labels": course(
        signal=at(*range(200, 230), is_now=0.0, else_is=1.0),
        noise=at(*range(200, 230), is_now=9.0, else_is=0.3),
    ),
    "bursts of NaN": course(gradient=at(120, 121, 200, 201, 202, is_now=np.nan)),
    "NaN for a loss": course(told=np.full(STEPS, np.nan)),
    "plateau": course(signal=0.0, noise=1.0),
    "units die early": course(struck=at(12, is_now=-1e3)),
    "units are dead": course(struck=at(1, is_now=-1e3)),
    "a lost parameter": course(struck=at(200, is_now=np.nan)),
}


def start():
    """The first parameters; no output bias, so a dead layer has no gradient at all."""
    rng = np.random.default_rng(0)
    return {
        "w": jnp.asarray(rng.normal(size=(INPUTS, HIDDEN)) / 2, jnp.float32),
        "b": jnp.zeros(HIDDEN),
        "out": jnp.asarray(rng.normal(size=HIDDEN) / 16, jnp.float32),
    }


def loss_of(params, x, y):
    """Mean squared error."""
    hidden = jax.nn.relu(x @ params["w"] + params["b"])
    return jnp.mean((hidden @ params["out"] - y) ** 2)


def batch(now):
    """Inputs, and labels that may have something to do with them."""
    x = jax.random.normal(jax.random.fold_in(jax.random.key(0), now.fresh), (BATCH, 5))
    x, noise = x[:, :INPUTS], x[:, INPUTS]
    return x, now.signal * (2 * jnp.abs(x[:, 0]) - x[:, 1]) + now.noise * noise


def recorder(make, feed=lambda loss: {"value": loss}):
    """A program that records a course, step by step, under the optimizer of a rate."""

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(given):
        tx = make(given.rate)

        def step(carry, now):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_of)(params, *batch(now))
            grads = jax.tree.map(lambda g: g + now.gradient, grads)
            updates, state = tx.update(grads, state, params, **feed(loss + now.told))
            params = optax.apply_updates(params, updates)
            params["b"] = params["b"] + now.struck
            return (params, state), ao.snapshot(state)

        carry = (start(), tx.init(start()))
        columns = given._replace(rate=jnp.zeros(STEPS))
        return jax.lax.scan(step, carry, columns)

    return run


def sgd(rate, **options):
    """The loop that most runs are recorded under."""
    return ao.adaptive_scheduler(optax.sgd, rate, **options)


def jumping(rate):
    """A rate that a schedule makes a hundred times as large."""
    return sgd(optax.piecewise_constant_schedule(RATE, {JUMP: 100.0}))


@functools.cache
def program(name):
    """The program of a run, one for all that can share it."""
    if name == "a rate that jumps":
        return recorder(jumping)
    if name == "reward":
        return recorder(sgd, lambda loss: {"value": 0 * loss, "reward": -loss})
    if name == "observed":
        return recorder(functools.partial(sgd, mode="observe"))
    return recorder(sgd) if name == "all" else program("all")


@functools.cache
def recorded(name, observed=False):
    """The last parameters and state of a run, and its history."""
    run = program("observed" if observed else name)
    (params, state), stacked = run(COURSES.get(name, course()))
    return params, state, ao.History.from_stacked(stacked)
