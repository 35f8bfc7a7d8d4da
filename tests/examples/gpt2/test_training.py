import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptive_optax as ao
from examples.gpt2 import sharding
from examples.gpt2.config import Config
from examples.gpt2.model import GPT2Config
from examples.gpt2.optimizer import blocks, make_optimizer, muon_axes
from examples.gpt2.training import (
    init_params,
    init_state,
    make_evaluation,
    make_step,
    template,
    weighted_loss,
)
from examples.gpt2.weights import abstract_params
from tests.helpers import few

TINY = GPT2Config(32, n_positions=16, n_embd=16, n_layer=2, n_head=2, scan_layers=True)
RNG = np.random.default_rng(0)
# Padding, unevenly: a mean of the micro-batches' means would be another number.
BATCH = {
    "tokens": RNG.integers(0, 32, (8, 9)).astype(np.int32),
    "weights": np.triu(np.ones((8, 8), np.float32)),
}
SGD = optax.with_extra_args_support(optax.sgd(0.1))
BARE = {"sigma": 0.0, "average": False, "recovery": False}


@pytest.fixture(scope="module")
def params():
    return init_params(TINY, 0)


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def step_once(params, tx=SGD, batch=BATCH, **options):
    return jax.jit(make_step(TINY, tx, **options))(init_state(params, tx, 0), batch)


@pytest.fixture(scope="module")
def whole(params):
    """The step of the whole batch, in one."""
    return step_once(params)


@pytest.mark.parametrize("n", few([2, 8], [8]))
def test_micro_batches_give_the_step_and_the_loss_of_the_batch(params, whole, n):
    state, told = whole
    parts, same = step_once(params, accumulate=n)
    np.testing.assert_allclose(same["loss"], told["loss"], rtol=1e-6)
    close(parts.params, state.params, atol=1e-6)


def test_the_controller_sees_one_loss_a_step(params):
    options = Config(scan_layers=True, freeze_threshold=0.0, **BARE)
    tx = make_optimizer(options, params, None)
    state, told = step_once(params, tx, accumulate=4)
    mean = weighted_loss(template(TINY), params, BATCH) / BATCH["weights"].sum()
    seen = ao.snapshot(state.opt_state)
    np.testing.assert_allclose(seen["loss"], mean, rtol=1e-6)
    assert seen["steps"] == 1
    assert told["learning_rate"] == np.float32(options.learning_rate)


def test_padding_is_out_of_the_loss(params):
    weights = np.ones((2, 8), np.float32)
    weights[:, 5:] = 0
    tokens = BATCH["tokens"][:2].copy()
    evaluate = make_evaluation(TINY)
    before = evaluate(params, [{"tokens": tokens, "weights": weights}])
    tokens[:, 6:] = 0
    assert evaluate(params, [{"tokens": tokens, "weights": weights}]) == before


def test_evaluation_weighs_tokens_not_batches(params):
    halves = [
        jax.tree.map(lambda x: x[:4], BATCH),
        jax.tree.map(lambda x: x[4:], BATCH),
    ]
    evaluate = make_evaluation(TINY)
    np.testing.assert_allclose(
        evaluate(params, halves), evaluate(params, [BATCH]), rtol=1e-6
    )


def test_a_frozen_block_rests_and_its_backward_pass_with_it(params):
    """A threshold above every norm but those of the embeddings and the last norm."""
    tx = ao.adaptive_sgd(
        0.1,
        recovery=False,
        average=False,
        freeze=ao.Freeze(
            1e9,
            warmup=0,
            min_dwell=0,
            probe_every=100,
            stacked="h",
            groups=blocks(params),
            never=("wte", "wpe", "ln_f"),
        ),
    )
    step = jax.jit(make_step(TINY, tx, freezes=True))
    state = init_state(params, tx, 0)
    for _ in range(3):
        before = state.params
        state, told = step(state, BATCH)
    close(state.params["h"], before["h"], atol=0)
    assert jnp.abs(state.params["wte"]["embedding"] - before["wte"]["embedding"]).max()
    assert told["frozen_fraction"] > 0.8
    plain, _ = jax.jit(make_step(TINY, tx))(state, BATCH)
    skipped, _ = step(state, BATCH)
    close(skipped.params, plain.params, atol=1e-6)


@pytest.mark.parametrize("optimizer", few(["sgd", "adamw", "muon"], ["muon"]))
def test_every_optimizer_takes_a_step_under_the_controller(params, optimizer):
    options = Config(
        optimizer=optimizer, scan_layers=True, freeze_threshold=0.0, **BARE
    )
    state, told = step_once(params, make_optimizer(options, params, 100))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, params)
    assert all(0 < x < 0.01 for x in jax.tree.leaves(moved["h"]["attn"]))
    assert told["momentum"] == np.float32(0.9)


def test_muon_turns_the_kernels_of_the_blocks():
    config = dataclasses.replace(TINY, scan_layers=False)
    axes = muon_axes(abstract_params(config))
    assert axes["h"][0]["attn"]["c_attn"]["kernel"].output_axis == -1
    assert axes["wte"]["embedding"] is None
    assert axes["h"][1]["mlp"]["c_fc"]["bias"] is None


def test_a_mesh_changes_no_number(params, whole):
    plain, told = whole
    mesh = sharding.make_mesh("4,2")
    state = sharding.place(init_state(params, SGD, 0), mesh)
    kernel = state.params["h"]["mlp"]["c_fc"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 16, 32)
    batch = sharding.place_batch(BATCH, mesh)
    step = jax.jit(make_step(TINY, SGD, accumulate=2))
    split, same = step(state, batch)
    np.testing.assert_allclose(same["loss"], told["loss"], rtol=1e-6)
    close(split.params, plain.params, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("2", "must be DATA,MODEL such as 4,2, got '2'"),
        ("2,x", "must be DATA,MODEL"),
        ("0,2", "needs 0 devices"),
        ("5,2", "needs 10 devices, at least one; there are 8"),
    ],
)
def test_bad_meshes(shape, message):
    with pytest.raises(ValueError, match=message):
        sharding.make_mesh(shape)


def test_rows_and_heads_must_be_dealt_evenly():
    mesh = sharding.make_mesh("4,2")
    sharding.check_sizes(mesh, 8, 2, 2)
    with pytest.raises(ValueError, match="--batch-size 8 is not a multiple of 4"):
        sharding.check_sizes(mesh, 8, 4, 2)
    with pytest.raises(ValueError, match="5 heads cannot be split over 2"):
        sharding.check_sizes(mesh, 8, 1, 5)
