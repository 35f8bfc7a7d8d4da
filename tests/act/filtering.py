"""A filter run over gradients, at a momentum that rests or moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import strategies as st

STEPS = 200
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.zeros(3)}
momenta = st.lists(
    st.one_of(
        st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999]),
        st.floats(0.0, 0.9999),
    ),
    min_size=1,
    max_size=30,
)


def gradients(seed=0, steps=STEPS):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.normal(0.3, 1.0, (steps, *p.shape)), jnp.float32)
        for name, p in PARAMS.items()
    }


def train(tx, grads, params=PARAMS):
    """All updates of one run, stacked."""

    def step(carry, grad):
        params, state = carry
        updates, state = tx.update(grad, state, params)
        return (optax.apply_updates(params, updates), state), updates

    return jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), grads)[1])()


@functools.cache  # so that hypothesis compiles once
def runner(factory):
    def step(carry, xs):
        params, state = carry
        momentum, grad = xs
        updates, state = factory(momentum).update(grad, state, params)
        return (params, state), updates

    @jax.jit
    def run(momenta, grads):
        params = jnp.zeros(())
        state = factory(momenta[0]).init(params)
        return jax.lax.scan(step, (params, state), (momenta, grads))[1]

    return run


def steps_of(factory, momenta, grads):
    """30 updates of one scalar parameter when the momentum is injected each step."""
    momenta = momenta + momenta[-1:] * (30 - len(momenta))
    run = runner(factory)
    updates = run(jnp.asarray(momenta, jnp.float32), jnp.asarray(grads, jnp.float32))
    return np.asarray(updates, np.float64)


def assert_close(ours, theirs, rtol):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = np.max(np.abs(b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)
