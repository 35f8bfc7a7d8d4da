"""A run is the same run in a loop, under scan and under vmap, traced once, donated."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.contract.driving import DRIVEN, QUICK, at, driver, feedback
from tests.contract.optimizers import OPTIMIZERS, wrap
from tests.contract.registry import STANDING, TRANSFORMATIONS, some_params
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
        assert sum(leaf.size for leaf in kept) <= 20
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


@pytest.mark.parametrize("name", few(TRANSFORMATIONS, STANDING))
def test_a_run_with_and_without_feedback_keeps_its_types(name):
    tx = driver(name).tx
    params, state = driver(name).start()
    fed = at(feedback(8, 1), 0)

    def step(params, state, fed):
        kinds = [
            {"value": None},
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
