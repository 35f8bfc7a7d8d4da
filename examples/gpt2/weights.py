"""Hugging Face GPT-2 checkpoints, read and written: safetensors, sharded or not.

Every tensor is checked against the configuration by name and shape, from the files'
headers, before any is read. Tensors are named as `model.GPT2` names its parameters:
``transformer.h.0.attn.c_attn.weight`` is ``h/0/attn/c_attn/kernel``.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from huggingface_hub import snapshot_download, split_state_dict_into_shards_factory
from safetensors import SafetensorError, safe_open
from safetensors.flax import save_file
from tokenizers import Tokenizer

from examples.gpt2.model import GPT2, GPT2Config
from examples.gpt2.tokenizer import END

Params = dict[str, Any]

FILES = ["config.json", "*.safetensors", "*.safetensors.index.json"]
TOKENIZER_FILES = ["tokenizer.json", "vocab.json", "merges.txt"]
# The causal masks that old checkpoints carry along, and the head tied to `wte`.
BUFFERS = re.compile(r"h\.\d+\.attn\.(masked_)?bias|lm_head\.weight")
# What a file says about the architecture that this one cannot be told to be.
FIXED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
SIZES = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")


def resolve(checkpoint: str) -> Path:
    """The local folder of a checkpoint, downloaded first if it is a hub name.

    Raises:
      FileNotFoundError: If there is no such folder and the hub has it not or cannot be
        reached.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        return folder
    try:
        return Path(
            snapshot_download(checkpoint, allow_patterns=FILES + TOKENIZER_FILES)
        )
    except Exception as error:  # the hub's errors and those of the network beneath
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileNotFoundError(
            f"{checkpoint}: no such folder, and not from the hub either: {reason[0]}"
        ) from error


def load_config(folder: Path, **run: Any) -> GPT2Config:
    """The configuration in ``config.json``; ``run`` says how to run it.

    Raises:
      FileNotFoundError: If there is none.
      ValueError: If it is not a GPT-2 of this architecture.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a checkpoint has one")
    try:
        entries = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON, {error}") from error
    wrong = [
        f"{key}={entries[key]!r} (only {value!r} here)"
        for key, value in FIXED.items()
        if entries.get(key, value) != value
    ]
    missing = [key for key in SIZES if not isinstance(entries.get(key), int)]
    wrong += [f"{key} missing" for key in missing]
    if not missing and entries.get("n_inner") not in (None, 4 * entries["n_embd"]):
        wrong.append(f"n_inner={entries['n_inner']} (only 4 n_embd here)")
    if wrong:
        raise ValueError(f"{path}: no GPT-2 that can be loaded: {', '.join(wrong)}")
    epsilon = entries.get("layer_norm_epsilon", 1e-5)
    sizes = {key: entries[key] for key in SIZES}
    return GPT2Config(**sizes, layer_norm_epsilon=epsilon, **run)


def abstract_params(config: GPT2Config) -> Params:
    """Shapes and dtypes of the parameters, as a nested dict."""
    model = nnx.eval_shape(lambda: GPT2(config, nnx.Rngs(0)))
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def load_params(folder: Path, config: GPT2Config) -> Params:
    """The parameters of a checkpoint folder, in float32.

    Raises:
      FileNotFoundError: If there are no weights.
      ValueError: If tensors are missing, unknown or of another shape (all are listed),
        if a file is damaged, or if the output head is not the embedding.
    """
    files = {path: _open(path) for path in _weight_files(folder)}
    found = {
        name.removeprefix("transformer."): (file, name)
        for file in files.values()
        for name in file.keys()  # noqa: SIM118 (not a mapping)
    }
    abstract = abstract_params(config)
    wanted = to_tensors(abstract)
    problems = [f"missing {name}" for name in wanted if name not in found]
    for name, (file, key) in found.items():
        shape = tuple(file.get_slice(key).get_shape())
        if name not in wanted:
            problems += [] if BUFFERS.fullmatch(name) else [f"unknown {name}"]
        elif shape != wanted[name].shape:
            problems.append(f"{name} is {shape}, expected {wanted[name].shape}")
    if problems:
        raise ValueError(f"{folder}: weights do not fit: {'; '.join(problems)}")

    def read(name: str) -> np.ndarray:
        file, key = found[name]
        return np.asarray(file.get_tensor(key), np.float32)

    tensors = {name: read(name) for name in wanted}
    if "lm_head.weight" in found and not np.array_equal(
        read("lm_head.weight"), tensors["wte.weight"]
    ):
        raise ValueError(f"{folder}: lm_head.weight is not tied to wte.weight")
    return from_tensors(tensors, abstract)


def save_checkpoint(
    folder: Path,
    config: GPT2Config,
    params: Params,
    tokenizer: Tokenizer,
    shard_size: str = "5GB",
) -> None:
    """Write ``config.json``, weights and tokenizer as `transformers` reads them.

    The folder is written under another name and renamed: there is a whole checkpoint
    or none.

    Raises:
      FileExistsError: If the folder exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; it is not overwritten")
    tensors = {
        f"transformer.{name}": np.asarray(x) for name, x in to_tensors(params).items()
    }
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    entries = {key: getattr(config, key) for key in SIZES}
    entries |= {"layer_norm_epsilon": config.layer_norm_epsilon}
    rates = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), config.dropout)
    end = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.token_to_id(END))
    kind = {"architectures": ["GPT2LMHeadModel"], "dtype": "float32"} | end
    text = json.dumps(kind | FIXED | entries | rates, indent=2)
    (partial / "config.json").write_text(f"{text}\n", "utf-8")
    tokenizer.save(str(partial / "tokenizer.json"))
    split = split_state_dict_into_shards_factory(
        tensors,
        get_storage_size=lambda x: x.nbytes,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=shard_size,
    )
    for name, keys in split.filename_to_tensors.items():
        shard = {key: jnp.asarray(tensors[key]) for key in keys}
        save_file(shard, partial / name, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        path = partial / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2), "utf-8")
    partial.rename(folder)


def to_tensors(params: Params) -> dict[str, Any]:
    """{"h.0.ln_1.weight": array, ...} of nested parameters, stacked or not."""
    tensors = {}
    for path, x in traverse_util.flatten_dict(params).items():
        name = _tensor_name(path)
        if path[0] == "h" and not isinstance(path[1], int):
            for i in range(x.shape[0]):
                layer = (
                    x[i] if hasattr(x, "__getitem__") else x.update(shape=x.shape[1:])
                )
                tensors[name.replace("h.", f"h.{i}.", 1)] = layer
        else:
            tensors[name] = x
    return tensors


def from_tensors(tensors: Mapping[str, np.ndarray], abstract: Params) -> Params:
    """The inverse of `to_tensors`, in the structure of ``abstract``."""
    flat = {}
    for path, like in traverse_util.flatten_dict(abstract).items():
        name = _tensor_name(path)
        if path[0] == "h" and not isinstance(path[1], int):
            names = [name.replace("h.", f"h.{i}.", 1) for i in range(like.shape[0])]
            flat[path] = jnp.asarray(np.stack([tensors[n] for n in names]))
        else:
            flat[path] = jnp.asarray(tensors[name])
    return traverse_util.unflatten_dict(flat)


def _tensor_name(path: tuple) -> str:
    leaf = "bias" if path[-1] == "bias" else "weight"
    return ".".join(map(str, (*path[:-1], leaf)))


def _weight_files(folder: Path) -> list[Path]:
    """The one file, or all that the index names."""
    single, index = (
        folder / "model.safetensors",
        folder / "model.safetensors.index.json",
    )
    if single.is_file():
        return [single]
    if not index.is_file():
        raise FileNotFoundError(f"{folder}: no model.safetensors, sharded or not")
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: not an index of shards") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: missing shards {', '.join(missing)}")
    return [folder / name for name in names]


def _open(path: Path):
    try:
        return safe_open(path, framework="flax")
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, {error}") from error
