"""A parameter that is NaN: no way back by adding, so it is said and repaired."""

import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from tests.supervise.driving import calm, feed, restores

PARAMS = {
    "table": jnp.ones((4, 3)),
    "w": jnp.linspace(-1.0, 1.0, 3),
    "n": jnp.arange(3),
}


def make(**options):
    options = {"average": False, "recovery": True} | options
    tx = ao.adaptive_scheduler(optax.sgd, 0.01, **options)

    @jax.jit
    def update(params, state, size, value):
        def grad(p):
            integer = jnp.issubdtype(p.dtype, jnp.integer)
            return jnp.zeros_like(p) if integer else jnp.full_like(p, size)

        grads = jax.tree.map(grad, params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    def step(params, state, value, size=None):
        size = (np.nan if np.isnan(value) else 1.0) if size is None else size
        return update(params, state, np.float32(size), np.float32(value))

    return tx, step


TX, STEP = make()
# The row is asked for in six batches of seven: those are NaN, and the seventh is sound.
ASKED = [*[np.nan] * 6, 2.0]


def struck(params=PARAMS, before=70, tx=TX, step=STEP):
    """A sound run, one of whose parameters has become NaN."""
    params, state = feed(calm(before), params, step=step, tx=tx)
    return params | {"table": params["table"].at[1, 2].set(jnp.nan)}, state


def lost(state):
    return int(ao.snapshot(state)["lost_parameters"])


@pytest.mark.parametrize("streak", [5, 6])
def test_it_is_counted_and_nothing_goes_back_nor_is_cut(streak):
    # There were as many restores as bursts, and each sound check after one was an
    # offence of the rate.
    params, state = struck()
    before = jax.device_get(state)
    for _ in range(20):
        params, state = feed([*[np.nan] * streak, 2.0], params, state, STEP, TX)
    assert lost(state) == 1 and np.argmax(state.recovery.lost_entries) == 1
    assert restores(state) == 0
    judges, was = state.recovery.judges, before.recovery.judges
    assert judges.trial.owed == 0 and judges.trial.offences == 0
    assert float(state.lr_scale) >= float(before.lr_scale)
    assert float(judges.trusted_log_scale) == float(was.trusted_log_scale)
    finite = jnp.isfinite(params["table"])
    assert int(finite.sum()) == 11 and bool(jnp.isfinite(params["w"]).all())


def test_repair_names_it_and_the_run_goes_on():
    params, state = struck()
    params, state = feed(ASKED, params, state, STEP, TX)
    with pytest.warns(ao.LostParametersWarning, match=r"'table' \(1\)"):
        repaired = ao.repair(params, state)
    good = state.recovery.copy.good_params
    assert repaired["table"][1, 2] == good["table"][1, 2]
    rest = np.isfinite(params["table"])
    chex.assert_trees_all_equal(repaired["table"][rest], params["table"][rest])
    chex.assert_trees_all_equal(repaired["w"], params["w"])
    params, state = feed([2.0], repaired, state, STEP, TX)
    assert lost(state) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chex.assert_trees_all_equal(ao.repair(params, state), params)
    # From then on a divergence is undone as before.
    _, state = feed([*calm(45), *[1e4] * 5, 2.0, 2.0], params, state, STEP, TX)
    assert restores(state) == 1


def test_a_row_that_no_batch_asks_for_does_not_spoil_the_copy():
    # The gradient was finite, the run sound, and the next copy held the NaN.
    params, state = struck()
    params, state = feed(calm(45), params, state, STEP, TX)
    assert lost(state) == 1
    assert bool(jnp.isfinite(state.recovery.copy.good_params["table"]).all())


def test_in_the_audit_too():
    params, state = struck(before=5)
    params, state = feed(ASKED * 10, params, state, STEP, TX)
    assert lost(state) == 1 and restores(state) == 0
    assert int(state.recovery.judges.audit.audit_failures) == 0


def test_an_infinite_constant_is_not_lost():
    params = PARAMS | {"table": PARAMS["table"].at[0, 0].set(-jnp.inf)}
    params, state = feed(calm(70), params, step=STEP, tx=TX)
    _, state = feed([*[1e4] * 5, 2.0, 2.0, *calm(30)], params, state, STEP, TX)
    assert lost(state) == 0 and restores(state) == 1
    chex.assert_trees_all_equal(ao.repair(params, state)["table"], params["table"])


@pytest.mark.parametrize(
    "recovery",
    [
        ao.Recovery(memory="pinned_host"),
        ao.Recovery(dtype=jnp.bfloat16, inner=False),
    ],
    ids=str,
)
def test_with_every_sort_of_copy(recovery):
    tx, step = make(recovery=recovery)
    params, state = struck(tx=tx, step=step)
    params, state = feed(ASKED * 2, params, state, step, tx)
    assert lost(state) == 1 and restores(state) == 0
    with pytest.warns(ao.LostParametersWarning):
        assert bool(jnp.isfinite(ao.repair(params, state)["table"]).all())
    assert jax.jit(ao.repair)(params, state)["table"].shape == (4, 3)


def test_it_is_found_in_a_chain_and_what_does_not_fit_is_refused():
    tx = optax.chain(optax.clip(1.0), TX)
    state = tx.init(PARAMS)
    chex.assert_trees_all_equal(ao.repair(PARAMS, state), PARAMS)
    with pytest.raises(ValueError, match="recovery=True"):
        ao.repair(PARAMS, optax.sgd(0.1).init(PARAMS))
    with pytest.raises(ValueError, match="no parameter of shape"):
        ao.repair({"w": jnp.ones(3)}, state)
