"""`jax_debug_nans` and `jax_debug_infs`: a sound run makes neither, eagerly or jitted.

JAX checks every primitive that runs eagerly, and the results of a jitted program. So a
value that is not known yet may not be kept as NaN or infinity, not even for one line.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.contract.driving import QUICK
from tests.helpers import few

MAKERS = {
    "factory": lambda: ao.adaptive_scheduler(optax.adam, 0.01),
    "search": lambda: ao.adaptive_scheduler(optax.adam, 0.01, mode="search"),
    "safe": lambda: ao.adaptive_scheduler(optax.adam, 0.01, mode="safe"),
    "built": lambda: ao.adaptive_scheduler(optax.adam(0.01), 0.01),
    "bare": lambda: ao.adaptive_scheduler(
        optax.sgd(0.01), average=False, recovery=False
    ),
    "everything": lambda: ao.adaptive_sgd(
        0.01,
        momentum_rule=ao.rules.trend(),
        sigma=1e-3,
        mode="safe",
        lr_bounds=(1e-4, 1.0),
        total_steps=100,
        freeze=ao.Freeze(
            0.5, relative_to="initial", warmup=8, min_dwell=2, max_fraction=0.9
        ),
    ),
    "schedule": lambda: ao.adaptive_scheduler(
        optax.adam, optax.cosine_decay_schedule(0.01, 20), lr_bounds=(1e-4, 1.0)
    ),
    "rule": lambda: (
        optax.chain(
            ao.add_dither(1e-3),
            optax.sgd(0.01),
            ao.scale_by_rule(
                ao.blend(
                    ao.rules.plateau(),
                    ao.rules.variance(),
                    ao.rules.success(),
                    ao.rules.reward(),
                    ao.rules.literal(),
                    ao.rules.grad_norm(),
                )
            ),
            ao.restore_on_divergence(optax.identity()),
            ao.average_params(),
        )
        if hasattr(ao, "restore_on_divergence")
        else ao.average_params()
    ),
}


@contextlib.contextmanager
def checked():
    with jax.debug_nans(True), jax.debug_infs(True):
        yield


def run(tx, steps, wrap, seed=0):
    """A noisy quadratic, with a leaf that is empty and one that is a scalar."""
    noise = np.random.default_rng(seed).normal(size=(steps, 6)).astype(np.float32)
    params = {"w": jnp.linspace(0.5, 2.0, 6), "b": jnp.ones(()), "e": jnp.zeros((0,))}
    state = tx.init(params)

    @wrap
    def step(params, state, noise):
        def loss(p):
            return jnp.sum((p["w"] - 0.1 * noise) ** 2) + p["b"] ** 2

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    for t in range(steps):
        params, state = step(params, state, noise[t])
    ao.snapshot(state)
    return params


def jitted(step):
    return jax.jit(step, compiler_options=QUICK)


@pytest.mark.parametrize("name", few(MAKERS, ["factory"]))
def test_eagerly(name):
    with checked():
        run(MAKERS[name](), 30, lambda step: step)


@pytest.mark.parametrize("name", few(MAKERS, ["factory", "everything"]))
def test_jitted(name):
    with checked():
        params = run(MAKERS[name](), 100, jitted)
    assert jnp.isfinite(params["w"]).all()
