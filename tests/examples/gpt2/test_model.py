import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples.gpt2 import weights
from examples.gpt2.generate import empty_cache, generate
from examples.gpt2.model import PRESETS, GPT2Config, preset
from examples.gpt2.training import init_params, template, weighted_loss

TINY = GPT2Config(50, n_positions=16, n_embd=16, n_layer=2, n_head=2)
TOKENS = np.random.default_rng(0).integers(0, 50, (2, 12)).astype(np.int32)


@functools.partial(jax.jit, static_argnums=0)
def logits(config, params, tokens=TOKENS, **options):
    return nnx.merge(template(config), params)(tokens, **options)


def scanned(params, config):
    abstract = weights.abstract_params(config)
    return weights.from_tensors(weights.to_tensors(params), abstract)


@pytest.fixture(scope="module")
def params():
    return init_params(TINY, 0)


def test_presets_have_the_published_sizes():
    millions = {}
    for name in PRESETS:
        leaves = jax.tree.leaves(
            weights.abstract_params(preset(name, scan_layers=True))
        )
        millions[name] = round(sum(x.size for x in leaves) / 1e6, 1)
    sizes = {"gpt2": 124.4, "gpt2-medium": 354.8, "gpt2-large": 774.0}
    assert millions == {**sizes, "gpt2-xl": 1557.6, "nano": 1.0}


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match="unknown preset 'gpt3'; there are gpt2, "):
        preset("gpt3")


def test_heads_must_share_the_features():
    with pytest.raises(ValueError, match="3 heads cannot share 16 features"):
        dataclasses.replace(TINY, n_head=3)


def test_no_token_sees_the_future(params):
    changed = np.array(TOKENS)
    changed[:, 7:] = (changed[:, 7:] + 1) % 50
    before, after = logits(TINY, params), logits(TINY, params, changed)
    np.testing.assert_array_equal(before[:, :7], after[:, :7])
    assert jnp.abs(before[:, 7] - after[:, 7]).max() > 1e-3


def test_scan_and_remat_change_nothing(params):
    batch = {"tokens": TOKENS, "weights": np.ones((2, 11), np.float32)}

    @functools.partial(jax.jit, static_argnums=0)
    def loss_and_grads(config, params):
        graph = template(config)
        return jax.value_and_grad(lambda p: weighted_loss(graph, p, batch))(params)

    loss, grads = loss_and_grads(TINY, params)
    for scan, remat in ((False, True), (True, True)):
        config = dataclasses.replace(TINY, scan_layers=scan, remat=remat)
        same, found = loss_and_grads(config, scanned(params, config))
        np.testing.assert_allclose(same, loss, rtol=1e-6)
        expected = scanned(grads, config)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected
        )


def test_bfloat16_keeps_float32_masters(params):
    config = dataclasses.replace(TINY, dtype="bfloat16")
    out = logits(config, params)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, logits(TINY, params), atol=0.02)
    grads = jax.eval_shape(jax.grad(lambda p: logits(config, p).sum()), params)
    assert {x.dtype for x in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("scan", [False, True])
def test_the_cache_gives_the_same_logits(params, scan):
    config = dataclasses.replace(TINY, scan_layers=scan)
    params = scanned(params, config)
    whole = logits(config, params)
    cache, parts = empty_cache(config, 2, 16), []
    for start, end in ((0, 5), (5, 6), (6, 10), (10, 12)):
        part = TOKENS[:, start:end]
        out, cache = logits(config, params, part, cache=cache, index=start)
        parts.append(out)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, atol=1e-5)


def test_generation_is_the_argmax_of_every_prefix(params):
    new = generate(TINY, params, TOKENS[:, :4], 6)
    tokens = TOKENS[:, :4]
    for _ in range(6):
        best = np.argmax(logits(TINY, params, tokens)[:, -1], -1)
        tokens = np.concatenate([tokens, best[:, None]], 1)
    np.testing.assert_array_equal(new, tokens[:, 4:])


def test_samples_follow_their_key(params):
    prompt = TOKENS[:, :4]
    first, again, other = (
        generate(TINY, params, prompt, 8, key=jax.random.key(seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_dropout_acts_in_training_only(params):
    config = dataclasses.replace(TINY, dropout=0.5)
    still = logits(config, params)
    np.testing.assert_array_equal(still, logits(TINY, params))
    one, two = (logits(config, params, key=jax.random.key(seed)) for seed in (0, 1))
    assert jnp.abs(one - two).max() > 1e-3
    scan = dataclasses.replace(config, scan_layers=True)
    same = logits(scan, scanned(params, scan), key=jax.random.key(0))
    np.testing.assert_allclose(same, one, atol=1e-5)


def test_sequences_end_where_the_positions_do(params):
    with pytest.raises(ValueError, match="17 tokens exceed the model's 16 positions"):
        logits(TINY, params, np.zeros((1, 17), np.int32))
    with pytest.raises(ValueError, match="12 tokens and 5 more exceed"):
        generate(TINY, params, TOKENS, 5)
