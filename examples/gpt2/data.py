"""Texts, packed to blocks of tokens, in a shuffled order that can be resumed.

Documents are joined, an end-of-text token after each, and cut into blocks; only the
last block is padded. Block i holds tokens [i T, i T + T], one more than its inputs, so
that every token but the first is predicted once. Padding stands on the right, where
causal attention never looks back from a real token, and its losses weigh nothing.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np


class Texts(NamedTuple):
    """Documents to train on and to validate on."""

    train: list[str]
    valid: list[str]


class Blocks:
    """Random access to {"tokens": i32[T + 1], "weights": f32[T]}."""

    def __init__(self, tokens: np.ndarray, length: int):
        """Cut i32[n] into blocks of ``length`` predictions."""
        self.tokens, self.length = np.asarray(tokens, np.int32), length

    def __len__(self) -> int:
        """Number of blocks, the padded one included."""
        return -(-(len(self.tokens) - 1) // self.length)

    def __getitem__(self, index) -> dict[str, np.ndarray]:
        """One block."""
        part = self.tokens[index * self.length :][: self.length + 1]
        missing = self.length + 1 - len(part)
        weights = np.ones(self.length, np.float32)
        weights[self.length - missing :] = 0.0
        return {"tokens": np.pad(part, (0, missing)), "weights": weights}

    def digest(self) -> str:
        """What tells these tokens from any others."""
        return hashlib.sha256(self.tokens.tobytes()).hexdigest()[:16]


def python_topics() -> Texts:
    """The reference manual that CPython ships; every twelfth topic validates."""
    from pydoc_data.topics import topics

    documents = sorted(set(topics.values()))  # some stand under several names
    held_out = documents[::12]
    return Texts([d for i, d in enumerate(documents) if i % 12], held_out)


def wikitext() -> Texts:
    """WikiText-2, raw, through `datasets`: its train and validation splits."""
    import datasets

    try:
        splits = datasets.load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1")
    except Exception as error:  # the hub's errors and those of the network beneath
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileNotFoundError(f"wikitext cannot be had: {reason[0]}") from error
    return Texts(*(["".join(splits[s]["text"])] for s in ("train", "validation")))


def text_files(train: Path, valid: Path) -> Texts:
    """One document a file."""
    return Texts([read_text(train)], [read_text(valid)])


def read_text(path: Path) -> str:
    """A file's text, of which there must be some."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8, {error}") from error
    if not text.strip():
        raise ValueError(f"{path}: holds no text")
    return text


def training_batches(
    blocks: Blocks, batch_size: int, epochs: int, seed: int
) -> tuple[grain.DatasetIterator, int]:
    """All batches of a run, each epoch in an order of its own, and how many an epoch.

    Raises:
      ValueError: If there are fewer blocks than one batch takes.
    """
    if len(blocks) < batch_size:
        raise ValueError(
            f"the training text fills {len(blocks)} blocks of {blocks.length} tokens, "
            f"less than one batch of {batch_size}"
        )
    batches = grain.MapDataset.source(blocks).seed(seed).shuffle()
    batches = batches.batch(batch_size, drop_remainder=True)
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(batches.repeat(epochs).to_iter_dataset(reading)), len(batches)


def all_batches(blocks: Blocks, batch_size: int):
    """Every block once, in order; the last batch is filled with blocks that weigh 0."""
    for start in range(0, len(blocks), batch_size):
        chosen = range(start, min(start + batch_size, len(blocks)))
        rows = [blocks[i] for i in chosen]
        rows += [{**rows[0], "weights": np.zeros_like(rows[0]["weights"])}] * (
            batch_size - len(rows)
        )
        yield {key: np.stack([row[key] for row in rows]) for key in rows[0]}
