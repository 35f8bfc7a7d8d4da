"""Restarts: which arrays are the momentum's, and what a step is after one."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax import filters
from adaptive_optax._types import Rule
from adaptive_optax.act import injection, restart

PARAMS = {"w": jnp.ones(3), "b": jnp.ones(())}
GAINS = injection.Gains(*map(jnp.float32, (0.1, 1.0, 0.9)))


class Averaged(NamedTuple):
    """State of `averaging`."""

    mean: optax.Params


def averaging(learning_rate, momentum=0.9):
    """SGD that averages where it steps to. The mean starts at the parameters."""

    def update(grads, state, params):
        steps = jax.tree.map(lambda g: -learning_rate * g, grads)
        new = jax.tree.map(jnp.add, params, steps)
        return steps, Averaged(optax.incremental_update(new, state.mean, 1 - momentum))

    return optax.GradientTransformation(Averaged, update)


BUFFERS = {
    "sgd": (optax.sgd, "trace"),
    "adam": (optax.adam, "mu"),
    "nadam": (optax.nadam, "mu"),
    "rmsprop": (optax.rmsprop, "trace"),
    "adan": (optax.adan, "m"),
    "injected": (optax.inject_hyperparams(optax.adam)(1e-3), "mu"),
    "our sgd": (filters.momentum_sgd, "heavy_ball_average"),
    "our adam": (filters.adamw, "first_moment"),
    "our adagrad": (filters.adagrad, "momentum_average"),
    "lion": (optax.lion, None),  # b1 weighs a step and gathers nothing
    "schedule-free": (optax.contrib.schedule_free_adamw, None),
    "a mean of parameters": (averaging, None),  # a restart may not set it to zero
}


class Counted(NamedTuple):
    """State of a rule that asks for a restart at one step."""

    momentum_restarts: jax.Array


def at(step):
    """A rule of the momentum that holds it, and restarts once."""

    def update(signals, state):
        return jnp.float32(0), Counted(
            state.momentum_restarts + (signals.count == step)
        )

    return Rule(lambda: Counted(jnp.zeros((), jnp.int32)), update)


@pytest.mark.parametrize("name", BUFFERS)
def test_the_buffer_is_found(name):
    factory, buffer = BUFFERS[name]
    inner = injection.adapt(factory, GAINS, momentum_wanted=True)
    state = inner.init(PARAMS)
    found = restart.buffers(inner, PARAMS, state, PARAMS, GAINS, {})
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    names = {
        jax.tree_util.keystr(path[:-1]).rpartition(".")[2]
        for path, is_buffer in zip(paths, found, strict=True)
        if is_buffer
    }
    assert names == (set() if buffer is None else {buffer})
    assert sum(found) == (0 if buffer is None else len(jax.tree.leaves(PARAMS)))


@pytest.mark.parametrize("factory", [optax.sgd, filters.momentum_sgd])
def test_the_first_step_after_a_restart_is_as_small_as_the_very_first(factory):
    if factory is filters.momentum_sgd:
        factory = functools.partial(factory, base_momentum=0.9)
    tx = ao.adaptive_scheduler(
        factory,
        0.1,
        momentum=0.9,
        momentum_rule=at(4),
        rule=Rule(*_holding()),
        recovery=False,
        average=False,
    )
    grads = jnp.ones(3)

    def step(state, _):
        updates, state = tx.update(grads, state, grads, value=jnp.float32(1))
        return state, updates[0]

    _, taken = jax.lax.scan(step, tx.init(grads), None, length=8)
    sums = np.cumsum(0.9 ** np.arange(8))
    np.testing.assert_allclose(taken[:4], -0.1 * sums[:4], rtol=1e-5)
    np.testing.assert_allclose(taken[4:], -0.1 * sums[:4], rtol=1e-5)


def test_a_rule_that_counts_nothing_leaves_the_optimizer_alone():
    inner = injection.adapt(optax.adam, GAINS, momentum_wanted=True)
    assert restart.restarting(inner, ao.rules.alignment()) is inner
    assert restart.restarting(inner, None) is inner
    assert restart.restarting(inner, ao.rules.momentum()) is not inner


def _holding():
    return (lambda: (), lambda signals, state: (jnp.float32(0), state))
