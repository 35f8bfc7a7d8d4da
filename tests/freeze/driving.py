"""The law of freezing driven by norms, and an optimizer whose one leaf is quiet."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adaptive_optax.freeze.transform import Freeze, init_freezing, observe

QUICK = {"warmup": 2, "min_dwell": 3, "probe_every": 4, "probe_steps": 1}


def decisions(norms, sizes=None, **settings):
    """The mask and the probe flag after every row of ``norms``."""
    norms = jnp.asarray(norms, jnp.float32)
    config = Freeze(**{**QUICK, **settings}).checked()
    leaves = [np.zeros(size) for size in sizes or [1] * norms.shape[1]]
    layout = config.layout(leaves)

    def step(state, row):
        state = observe(state, row, config, layout)
        return state, (state.freeze_mask, state.freeze_probing)

    init = init_freezing(leaves, config)
    state, (masks, probes) = jax.jit(lambda n: jax.lax.scan(step, init, n))(norms)
    return np.asarray(masks), np.asarray(probes), state


PARAMS = {
    "quiet": jnp.asarray([[1.0, -2.0], [3.0, -0.5]]),
    "loud": jnp.asarray([0.5, -1.5]),
}


def gradient(params, t, quiet=1e-6):
    wave = jnp.sin(t * 1.0)
    return {
        "quiet": params["quiet"] * quiet * (1 + wave),
        "loud": params["loud"] + wave,
    }


def run(tx, steps=12, params=PARAMS, **extra):
    """Parameters and states after every step."""

    @jax.jit
    def step(params, state, t):
        grads = gradient(params, t)
        more = {"grad": grads} if extra.get("grad") else {}
        updates, state = tx.update(grads, state, params, **more)
        return optax.apply_updates(params, updates), state

    state, history = tx.init(params), []
    for t in range(steps):
        params, state = step(params, state, t)
        history.append((params, state))
    return history


INNERS = {
    "sgd": optax.sgd(0.1, 0.9),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
    "amsgrad": optax.amsgrad(0.1),
    "adabelief": optax.adabelief(0.1),
    "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2),
    "lion": optax.lion(0.1),
    "lamb": optax.lamb(0.1),
    "rmsprop": optax.rmsprop(0.1, momentum=0.9),
    "adan": optax.adan(0.1, weight_decay=0.1),
    "novograd": optax.novograd(0.1),
    "sm3": optax.sm3(0.1),
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)),
    "masked": optax.chain(
        optax.masked(optax.adam(1.0), {"quiet": True, "loud": False}), optax.sgd(0.1)
    ),
    "partition": optax.partition(
        {"a": optax.adam(0.1), "b": optax.sgd(0.1, 0.9)}, {"quiet": "a", "loud": "b"}
    ),
    "inject": optax.inject_hyperparams(optax.adam)(0.1),
    "lbfgs": optax.lbfgs(0.1, linesearch=None),
}
