"""Constant gradients, and what the loop makes of them: updates and every state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptive_optax as ao

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}
BARE = {"average": False, "recovery": False}
ADAM = ao.adaptive_scheduler(optax.adam, 0.1, **BARE)
SAFE = ao.adaptive_scheduler(optax.sgd, 0.01, average=False, mode="safe")
ONES = np.ones(25, np.float32)


def run(tx, steps, *, params=PARAMS, state=None, value=1.0, **feedback):
    """Constant gradients: the last updates, and every state."""
    state = tx.init(params) if state is None else state
    fed = {name: jnp.full(steps, x) for name, x in feedback.items()}
    if value is not None:
        fed["value"] = jnp.full(steps, value)
    updates, states = scan(tx, params, state, [params] * steps, **fed)
    return jax.tree.map(lambda u: u[-1], updates), states


def scan(tx, params, state, grads, **feedback):
    """All updates, stacked, and a list of all states; ``params`` stay what they are."""
    grads = jax.tree.map(lambda *g: np.stack(g), *grads)
    updates, states = loop(tx)(params, state, grads, feedback)
    leaves, structure = jax.tree.flatten(jax.device_get(states))
    return updates, [structure.unflatten(each) for each in zip(*leaves, strict=True)]


@functools.cache
def loop(tx):
    @jax.jit
    def run(params, state, grads, feedback):
        def step(state, now):
            updates, state = tx.update(now[0], state, params, **now[1])
            return state, (updates, state)

        return jax.lax.scan(step, state, (grads, feedback))[1]

    return run


def rates(states):
    return [float(state.learning_rate) for state in states]
