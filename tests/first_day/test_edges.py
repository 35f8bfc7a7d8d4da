"""Runs that are longer than an int32 counts, and numbers at the edge of a float."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.freeze import transform
from adaptive_optax.freeze.criterion import init_freezing
from tests.contract.driving import QUICK

LAST = np.iinfo(np.int32).max
PARAMS = {"w": jnp.linspace(0.5, 2.0, 6), "b": jnp.ones(())}
ENDLESS = (  # what counts for as long as the run goes on
    "signal_count",
    "nonfinite",
    "nonfinite_steps",
    "average_count",
    "freeze_count",
    "freeze_dwell",
)


def at_the_edge(state):
    """The state with every endless counter at its last value."""

    def one(path, leaf):
        name = getattr(path[-1], "name", None)
        return jnp.full_like(leaf, LAST) if name in ENDLESS else leaf

    return jax.tree_util.tree_map_with_path(one, state)


@pytest.mark.parametrize("value, size", [(1.0, 1.0), (np.nan, 1.0), (1.0, np.nan)])
def test_a_counter_stays_at_the_last_int32(value, size):
    tx = ao.adaptive_scheduler(
        optax.adam,
        optax.linear_schedule(0.0, 0.1, 100),
        freeze=ao.Freeze(0.1, relative_to="initial", min_dwell=LAST),
    )

    @jax.jit(compiler_options=QUICK)
    def step(params, state, value, size):
        grads = jax.tree.map(lambda p: size * p, params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(3):
        params, state = step(params, state, 1.0, 1.0)
    state = at_the_edge(state)
    for _ in range(3):
        params, state = step(params, state, value, size)
    counters = [x for x in jax.tree.leaves(state) if x.dtype == jnp.int32]
    assert all((x >= 0).all() for x in counters)
    told = ao.snapshot(state)
    assert told["steps"] == LAST and told["nonfinite_values"] == LAST
    assert all(jnp.isfinite(p).all() for p in params.values())
    assert told["nonfinite_gradients"] == LAST


def test_all_frozen_is_a_share_of_one():
    # It read 1.00000012: shares in float32 add up to 1 only nearly.
    for sizes in np.random.default_rng(0).integers(1, 99, (50, 9)):
        params = [jnp.zeros(n) for n in sizes]
        config = ao.Freeze().checked()
        state, layout = init_freezing(params, config), config.layout(params)
        assert transform.frozen_fraction(state, layout) == 0.0
        state = state._replace(freeze_mask=jnp.ones(len(params), bool))
        assert transform.frozen_fraction(state, layout) == 1.0
