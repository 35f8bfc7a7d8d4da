"""What a snapshot reads of a state, and how little it asks for it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from adaptive_optax.watch import snapshot as watching
from adaptive_optax.watch.history import History
from adaptive_optax.watch.snapshot import snapshot
from tests.watch.training import BARE, PARAMS, SCHEDULER_KEYS, loss_fn, scheduler, train


def test_keys_and_values_of_a_scheduler():
    _, state = train(scheduler(), reward=2.5)
    shot = snapshot(state)
    assert set(shot) == SCHEDULER_KEYS
    assert shot["steps"] == 3
    assert shot["learning_rate"] == pytest.approx(0.1 * 4 / 20)  # it warms up
    assert shot["lr_scale"] == 1.0
    assert shot["momentum"] == jnp.float32(0.8)
    assert shot["reward"] == 2.5
    assert shot["loss"] == state.readings[0, 0] < loss_fn(PARAMS)
    assert shot["grad_norm"] > 0
    assert shot["success"] == 1.0  # of the loss; a reward that stays has none
    assert all(isinstance(x, jax.Array) for x in shot.values())
    assert all(np.isfinite(float(x)) for x in shot.values())  # a logger wants numbers
    tables = {key: x.shape for key, x in shot.events.items()}
    assert tables == {"event_runs": (8, 4), "event_figures": (8, 4)}


def test_a_snapshot_goes_through_transformations_with_its_events():
    _, state = train(scheduler())
    shot = snapshot(state)
    chex.assert_trees_all_equal(jax.jit(snapshot)(state), shot)
    assert isinstance(jax.tree.map(lambda x: x, shot), ao.Snapshot)
    (many,) = jax.lax.scan(lambda _, x: (None, (snapshot(state),)), None, jnp.ones(3))[
        1
    ]
    assert many["loss"].shape == (3,) and many.events["event_runs"].shape == (3, 8, 4)
    paths = jax.tree_util.tree_flatten_with_path(shot)[0]
    names = {jax.tree_util.keystr(path) for path, _ in paths}
    assert "['loss']" in names and ".events['event_runs']" in names
    assert "event_runs" not in {**shot, "epoch": 1}


def test_all_is_unpacked_in_one_dispatch():
    # Entry by entry it took fifty times as long.
    _, state = train(scheduler())
    held = {id(leaf) for leaf in jax.tree.leaves(state)}
    assert {id(x) for x in watching._fields(state).values()} <= held


def test_nonfinite_feedback_is_counted_by_its_kind():
    tx = scheduler(**BARE)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    nans = jax.tree.map(lambda x: x * jnp.nan, PARAMS)
    for grads, feedback in [
        (zeros, {"value": jnp.nan}),
        (zeros, {"value": jnp.inf}),
        (zeros, {"value": 1.0, "reward": jnp.nan}),
        (nans, {"value": 1.0}),
    ]:
        _, state = update(grads, state, PARAMS, **feedback)
    shot = snapshot(state)
    assert shot["nonfinite_values"] == 2
    assert shot["nonfinite_rewards"] == 1
    assert shot["nonfinite_gradients"] == 1
    assert shot["loss"] == 1.0


def test_the_state_may_be_donated_afterwards():
    tx = scheduler(**BARE)
    state = tx.init(PARAMS)
    history = History()
    step = jax.jit(
        lambda state: tx.update(PARAMS, state, PARAMS, value=1.0)[1],
        donate_argnums=0,
    )
    for _ in range(3):
        history.append(state)
        state = step(state)
    np.testing.assert_array_equal(history["steps"], [0, 1, 2])


def test_nothing_waits_for_the_device():
    # A transfer would raise; the arguments of the first call are made outside.
    tx = scheduler(**BARE)
    _, state = train(tx)
    history = History()
    history.append(state)
    with jax.transfer_guard_device_to_host("disallow"):
        history.append(state)
        history.append(snapshot(state), extra=state.learning_rate)
    assert len(history) == 3


def test_scan_and_vmap():
    tx = scheduler(**BARE)

    def run(scale):
        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params)
            updates, state = tx.update(grads, state, params, value=loss)
            params = optax.apply_updates(params, updates)
            return (params, state), snapshot(state)

        params = jax.tree.map(lambda x: scale * x, PARAMS)
        return jax.lax.scan(step, (params, tx.init(params)), length=4)

    (_, state), stacked = jax.jit(run)(1.0)
    _, loop_state = train(tx, steps=4)
    history = History.from_stacked(stacked)
    assert len(history) == 4
    np.testing.assert_array_equal(history["steps"], [1, 2, 3, 4])
    np.testing.assert_allclose(history["loss"][-1], snapshot(loop_state)["loss"])

    (_, states), stacked = jax.jit(jax.vmap(run))(jnp.array([1.0, 2.0]))
    assert snapshot(states)["loss"].shape == (2,)
    np.testing.assert_allclose(
        snapshot(states)["loss"][0], snapshot(state)["loss"], rtol=1e-6
    )


def test_a_copy_keeps_the_events():
    shot = ao.Snapshot({"loss": jnp.ones(())}, {"event_runs": jnp.zeros((8, 4))})
    assert shot.copy().events.keys() == shot.events.keys()
