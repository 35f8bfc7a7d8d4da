"""An average of every step, and a run that it is taken of."""

import jax
import jax.numpy as jnp
import optax

from adaptive_optax.act.average import average_params, eval_params


def run(tx, params, steps=5):
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    return state, params


PARAMS = {"w": jnp.ones((2, 2)), "b": jnp.zeros(3)}
AVERAGE = average_params(every=1, power=0.0)


def average_of(tx, **kwargs):
    state, params = run(tx, PARAMS, **kwargs)
    return eval_params(state, params), params
