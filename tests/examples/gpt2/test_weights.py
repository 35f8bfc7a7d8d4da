import dataclasses
import json
import os

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from examples.gpt2 import weights
from examples.gpt2.generate import generate
from examples.gpt2.model import GPT2Config, preset
from examples.gpt2.tokenizer import byte_level, load_tokenizer
from examples.gpt2.training import init_params, template

TINY = GPT2Config(300, n_positions=32, n_embd=16, n_layer=2, n_head=2)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def params():
    return init_params(TINY, 0)


@pytest.fixture
def folder(tmp_path, params):
    weights.save_checkpoint(tmp_path / "model", TINY, params, byte_level())
    return tmp_path / "model"


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("shard_size", ["5GB", "10KB"])
@pytest.mark.parametrize("scan", [False, True])
def test_what_is_saved_is_loaded(tmp_path, params, shard_size, scan):
    config = dataclasses.replace(TINY, scan_layers=scan)
    stacked = weights.from_tensors(
        weights.to_tensors(params), weights.abstract_params(config)
    )
    out = tmp_path / "model"
    weights.save_checkpoint(out, config, stacked, byte_level(), shard_size)
    shards = sorted(out.glob("*.safetensors"))
    assert (len(shards) > 3) == (shard_size == "10KB")
    assert weights.load_config(out, scan_layers=scan) == config
    assert_equal(weights.load_params(out, config), stacked)
    assert_equal(weights.load_params(out, TINY), params)
    assert load_tokenizer(out).get_vocab_size() == 257
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_names_and_buffers_of_old_checkpoints(folder, params):
    def change(tensors):
        bare = {name.removeprefix("transformer."): x for name, x in tensors.items()}
        tensors.clear()
        tensors.update(bare)
        tensors["h.0.attn.bias"] = np.ones((1, 1, 32, 32), np.float32)
        tensors["h.1.attn.masked_bias"] = np.float32(-1e4).reshape(1)
        tensors["lm_head.weight"] = tensors["wte.weight"].copy()

    rewrite(folder, change)
    assert_equal(weights.load_params(folder, TINY), params)


def test_half_precision_checkpoints_load_as_float32(folder, params):
    def change(tensors):
        for name, x in tensors.items():
            tensors[name] = x.astype(np.float16)

    rewrite(folder, change)
    loaded = weights.load_params(folder, TINY)
    half = jax.tree.map(lambda x: np.float32(np.float16(x)), params)
    assert_equal(loaded, half)


def test_all_that_does_not_fit_is_listed_in_one_line(folder):
    def change(tensors):
        del tensors["transformer.ln_f.bias"]
        tensors["transformer.h.2.ln_1.weight"] = np.ones(16, np.float32)
        tensors["transformer.wpe.weight"] = np.ones((8, 16), np.float32)

    rewrite(folder, change)
    with pytest.raises(ValueError, match="weights do not fit") as caught:
        weights.load_params(folder, TINY)
    message = str(caught.value)
    assert "missing ln_f.bias" in message
    assert "unknown h.2.ln_1.weight" in message
    assert "wpe.weight is (8, 16), expected (32, 16)" in message
    assert "\n" not in message


def test_a_head_of_its_own_is_refused(folder):
    def change(tensors):
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1

    rewrite(folder, change)
    with pytest.raises(ValueError, match="lm_head.weight is not tied"):
        weights.load_params(folder, TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, r"model_type='llama' \(only 'gpt2' here\)"),
        ({"activation_function": "relu"}, "activation_function='relu'"),
        ({"n_inner": 17}, "n_inner=17"),
        ({"n_head": None}, "n_head missing"),
    ],
)
def test_another_architecture_is_refused(folder, change, message):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        weights.load_config(folder)


def test_damaged_and_missing_files(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a safetensors file"):
        weights.load_params(folder, TINY)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no model.safetensors"):
        weights.load_params(folder, TINY)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"wte.weight": "a.safetensors"}}))
    with pytest.raises(FileNotFoundError, match="missing shards a.safetensors"):
        weights.load_params(folder, TINY)
    index.write_text("[]")
    with pytest.raises(ValueError, match="not an index"):
        weights.load_params(folder, TINY)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        weights.load_config(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file"):
        weights.load_config(folder)


def test_nothing_is_overwritten(folder, params):
    with pytest.raises(FileExistsError, match="not overwritten"):
        weights.save_checkpoint(folder, TINY, params, byte_level())


def test_a_name_that_nobody_knows_is_one_line(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network\nand a second line")

    monkeypatch.setattr(weights, "snapshot_download", refuse)
    with pytest.raises(FileNotFoundError, match="nobody/nothing: no such") as caught:
        weights.resolve("nobody/nothing")
    assert str(caught.value).endswith("no network")


def reference(config, folder):
    """The model of `transformers`, random weights, saved."""
    torch = pytest.importorskip("torch", reason="parity needs torch and transformers")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    sizes = {name: getattr(config, name) for name in names}
    ends = {"bos_token_id": None, "eos_token_id": None}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends))
    model.eval().save_pretrained(folder, max_shard_size="200MB")
    return torch, transformers, model


def check_parity(config, tmp_path, time, new):
    torch, transformers, model = reference(config, tmp_path / "theirs")
    loaded = weights.load_config(tmp_path / "theirs")
    assert loaded == config
    params = weights.load_params(tmp_path / "theirs", loaded)
    tokens = RNG.integers(0, config.vocab_size, (2, time)).astype(np.int32)
    with torch.no_grad():
        expected = model(torch.tensor(tokens)).logits.numpy()
    ours = jax.jit(lambda p: nnx.merge(template(loaded), p)(tokens))(params)
    np.testing.assert_allclose(ours, expected, atol=1e-4)

    # Random weights repeat themselves; their own argmax is compared all the same.
    prompt = tokens[:, :8]
    with torch.no_grad():
        told = model.generate(
            torch.tensor(prompt),
            attention_mask=torch.ones(2, 8),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
    found = generate(loaded, params, prompt, new)
    np.testing.assert_array_equal(found, told.numpy()[:, 8:])

    weights.save_checkpoint(tmp_path / "ours", loaded, params, byte_level())
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        saved = again(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_array_equal(saved, expected)


@pytest.mark.filterwarnings("ignore")  # of the reference, not ours
def test_parity_with_transformers_on_a_tiny_model(tmp_path):
    check_parity(TINY, tmp_path, time=32, new=16)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    "GPT2_FULL" not in os.environ,
    reason="needs 3 GB and a minute; GPT2_FULL=1 runs it",
)
def test_parity_with_transformers_on_gpt2(tmp_path):
    check_parity(preset("gpt2"), tmp_path, time=64, new=16)
