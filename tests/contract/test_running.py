"""A run is the same run in a loop, under scan and under vmap, traced once, donated."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptive_optax.sense.sensor import FED
from tests.contract.driving import DRIVEN, QUICK, at, copy, driver, feedback
from tests.contract.registry import (
    OPTIMIZERS,
    SCHEDULERS,
    STANDING,
    TRANSFORMATIONS,
    some_params,
    wrap,
)
from tests.helpers import few

STEPS = 56  # past the audit, and long enough for every rule to move
every = pytest.mark.parametrize("name", DRIVEN)
# Each compiles a step, which the tests marked with this share.
COMPILED = [name for name in DRIVEN if name in STANDING]
standing = pytest.mark.parametrize("name", few(DRIVEN, COMPILED))
POPULATIONS = (
    "factory",
    "built",
    "search",
    "momentum rule",
    "everything",
    "online_adagrad",
    "freeze_by_grad_norm around adamw",
    "scale_by_rule of a blend",
)


def pointers(tree):
    return {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree) if leaf.size}


@every
def test_the_first_state_shares_no_buffer(name):
    # A buffer in two places cannot be donated: XLA refuses, or worse, takes it.
    params, state = driver(name).start()
    leaves = [leaf for leaf in jax.tree.leaves(state) if leaf.size]
    assert len(pointers(state)) == len(leaves)
    assert not pointers(state) & pointers(params)


@standing
def test_one_trace_and_nothing_kept_of_what_was_donated(name):
    drive = driver(name)
    params, state = drive.start()
    stream = feedback(0, 4)
    for t in range(4):
        before = jax.tree.leaves((params, state))
        params, state = drive.step(params, state, at(stream, t))
        # Telemetry that a step does not read stays: scalars only.
        kept = [leaf for leaf in before if leaf.size and not leaf.is_deleted()]
        assert sum(leaf.size for leaf in kept) < 20
        assert not {leaf.shape for leaf in kept} & {x.shape for x in params.values()}
    assert not pointers(state) & pointers(params)
    assert drive.traces == 1


@pytest.mark.parametrize(
    "name",
    few(
        POPULATIONS,
        (
            "everything",
            "freeze_by_grad_norm around adamw",
            "scale_by_rule of a blend",
        ),
    ),
)
def test_scan_and_vmap_are_the_loop(name):
    drive = driver(name)
    streams = [feedback(seed, STEPS) for seed in (1, 2)]
    starts = [jax.tree.map(lambda x, k=k: x + k, some_params()) for k in (0.0, 0.5)]
    looped = [
        drive.loop(stream, drive.start(start))
        for stream, start in zip(streams, starts, strict=True)
    ]

    def run(params, stream):
        def step(carry, fed):
            return drive.plain(*carry, fed), None

        return jax.lax.scan(step, (params, drive.tx.init(params)), stream)[0]

    stack = lambda *x: jnp.stack(x)  # noqa: E731
    both = jax.jit(jax.vmap(run), compiler_options=QUICK)(
        jax.tree.map(stack, *starts), jax.tree.map(stack, *streams)
    )
    chex.assert_trees_all_close(
        both, jax.tree.map(stack, *looped), rtol=2e-5, atol=2e-6
    )


@standing
def test_a_pickled_state_goes_on_to_the_bit(name):
    drive = driver(name)
    params, state = drive.loop(feedback(3, 24))
    bytes_of = pickle.dumps(jax.device_get((params, state)))
    thawed = jax.tree.map(jnp.asarray, pickle.loads(bytes_of))
    rest = feedback(4, 8)
    chex.assert_trees_all_equal(
        drive.loop(rest, thawed), drive.loop(rest, (params, state))
    )
    assert drive.traces == 1


BAD = {
    "a NaN loss": lambda fed: fed._replace(value=jnp.float32(np.nan)),
    "an infinite loss": lambda fed: fed._replace(value=jnp.float32(np.inf)),
    "a loss of -inf": lambda fed: fed._replace(value=jnp.float32(-np.inf)),
    "a NaN reward": lambda fed: fed._replace(reward=jnp.float32(np.nan)),
    "an infinite reward": lambda fed: fed._replace(reward=jnp.float32(np.inf)),
    "a NaN in the gradient": lambda fed: fed._replace(
        grads=fed.grads | {"b": fed.grads["b"].at[1].set(np.nan)}
    ),
    "an infinite gradient": lambda fed: fed._replace(
        grads=jax.tree.map(lambda g: jnp.full_like(g, -np.inf), fed.grads)
    ),
    "nothing finite": lambda fed: jax.tree.map(lambda x: jnp.full_like(x, np.nan), fed),
}


@pytest.mark.parametrize(
    "name",
    few(
        [name for name in DRIVEN if name in SCHEDULERS],
        [name for name in COMPILED if name in SCHEDULERS],
    ),
)
def test_what_is_not_finite_moves_nothing_and_is_counted(name):
    drive = driver(name)
    warm = drive.loop(feedback(5, 30))
    fed = at(feedback(6, 1), 0)
    for what, spoil in BAD.items():
        params, state = drive.step(*copy(warm), spoil(fed))
        chex.assert_trees_all_equal(params, warm[0])
        old, new = warm[1], state
        for field in ("lr_scale", "momentum", "sigma", "frozen_fraction"):
            np.testing.assert_array_equal(
                getattr(new, field), getattr(old, field), err_msg=f"{field}: {what}"
            )
        for field in ("lr_rule", "momentum_rule", "sigma_rule"):
            chex.assert_trees_all_equal(getattr(new, field), getattr(old, field))
        if old.averaging:
            chex.assert_trees_all_equal(
                (new.averaging.average, new.averaging.average_count),
                (old.averaging.average, old.averaging.average_count),
            )
        counted = new.sensor.nonfinite - old.sensor.nonfinite
        for field, times in zip(FED, counted, strict=True):
            hit = field[:-1] in what.replace("loss", "value") or "nothing" in what
            assert int(times) == hit, (what, field)
        chex.assert_tree_all_finite(state._replace(recovery=(), sensor=state.sensor))
        params, state = drive.loop(feedback(7, 3), (params, state))
        chex.assert_tree_all_finite(params)
        moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), params, warm[0])
        assert all(jax.tree.leaves(moved)), f"{what} stopped the run"
    assert drive.traces == 1


@pytest.mark.parametrize("name", few(TRANSFORMATIONS, STANDING))
def test_a_run_with_and_without_feedback_keeps_its_types(name):
    tx = driver(name).tx
    params, state = driver(name).start()
    fed = at(feedback(8, 1), 0)

    def step(params, state, fed):
        kinds = [
            {},
            {"value": fed.value},
            {"loss": fed.value},
            {"reward": fed.reward},
            {"value": fed.value, "reward": fed.reward, "unheard_of": 1},
        ]
        after = [tx.update(fed.grads, state, params, **kind) for kind in kinds]
        types = [jax.tree.map(jax.typeof, each) for each in after]
        assert all(each == types[0] for each in types)
        return after[-1]

    jax.eval_shape(step, params, state, fed)


def rosenbrock(p):
    return (1.0 - p[0]) ** 2 + 100.0 * (p[1] - p[0] ** 2) ** 2


@pytest.mark.parametrize(
    "name, entry",
    few(
        [
            ("adam", "factory"),
            ("adam", "built"),
            ("adagrad", "factory"),
            ("sgd with momentum", "factory"),
            ("lion", "factory"),
        ],
        [("sgd with momentum", "factory")],
    ),
)
def test_it_solves_what_optax_asks_of_its_optimizers(name, entry):
    tx = wrap(OPTIMIZERS[name], entry)

    @jax.jit
    def run():
        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(rosenbrock)(params)
            updates, state = tx.update(grads, state, params, value=value)
            return (optax.apply_updates(params, updates), state), None

        start = jnp.zeros(2)
        return jax.lax.scan(step, (start, tx.init(start)), length=10_000)[0][0]

    # Lion's steps have one length whatever the gradient: it rattles about the minimum.
    np.testing.assert_allclose(run(), 1.0, rtol=6e-2 if name == "lion" else 3e-2)
