"""Runs of the supervisor, fed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao
from adaptive_optax.law import Law
from adaptive_optax.supervise import evidence, supervisor

LAW = Law()


def first(value):
    """Levels after a first loss."""
    return evidence.init_levels()._replace(first_value=value)


PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}


TX = ao.adaptive_scheduler(optax.sgd, 0.01, momentum=0.9, average=False, mode="safe")


def updater(tx):
    @jax.jit
    def update(params, state, size, **fed):
        grads = jax.tree.map(lambda p: jnp.full_like(p, size), params)
        updates, state = tx.update(grads, state, params, **fed)
        return optax.apply_updates(params, updates), state

    def step(params, state, value, size=1.0):
        fed = {} if value is None else {"value": np.float32(value)}
        return update(params, state, size, **fed)

    return step


STEP = updater(TX)


@jax.jit
def slow_step(params, state, **fed):
    """Another gradient than `STEP`'s, a hundredth of the step, any feedback."""
    updates, state = TX.update(params, state, params, **fed)
    updates = jax.tree.map(lambda u: 0.01 * u, updates)
    return optax.apply_updates(params, updates), state


def feed(values, params=PARAMS, state=None, step=STEP, tx=TX):
    state = tx.init(params) if state is None else state
    for value in values:
        params, state = step(params, state, value)
    return params, state


def calm(n, level=2.0):
    return level + 0.05 * np.cos(np.arange(n) * 2.4)


@jax.jit
def judge_on(state, signals, coordinate, held):
    """One finite step of the judges, and where its jump leads."""
    verdict, state = supervisor.judge(
        state, signals, coordinate, LAW, nonfinite=jnp.zeros((), bool), held=held
    )
    return verdict, state, coordinate + verdict.correction + verdict.min_rise


PLAIN = ao.adaptive_scheduler(optax.sgd, 0.01, average=False, mode="safe")


PLAIN_STEP = updater(PLAIN)
