"""Text to tokens: a checkpoint's own tokenizer, or bytes where there is none.

Both are `tokenizers.Tokenizer`s. The byte-level one is GPT-2's without its merges: 256
bytes and the end-of-text token, so nothing is unknown and nothing is downloaded.
"""

from pathlib import Path

import numpy as np
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
)

END = "<|endoftext|>"


def byte_level(
    vocab: dict[str, int] | None = None, merges: list[tuple[str, str]] = ()
) -> Tokenizer:
    """GPT-2's pipeline around a vocabulary; by default the bytes alone."""
    if vocab is None:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocab = {symbol: i for i, symbol in enumerate([*alphabet, END])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder.

    Raises:
      FileNotFoundError: If it has neither ``tokenizer.json`` nor ``vocab.json`` with
        ``merges.txt``.
      ValueError: If what is there is no tokenizer, or has no end-of-text token.
    """
    whole, vocab, merges = (
        folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt")
    )
    try:
        if whole.is_file():
            tokenizer = Tokenizer.from_file(str(whole))
        elif vocab.is_file() and merges.is_file():
            tokenizer = byte_level(*models.BPE.read_file(str(vocab), str(merges)))
        else:
            raise FileNotFoundError(
                f"{folder}: no tokenizer.json, nor vocab.json with merges.txt"
            )
    except OSError:
        raise
    except Exception as error:  # `tokenizers` raises bare Exceptions
        raise ValueError(f"{folder}: not a tokenizer, {error}") from error
    if tokenizer.token_to_id(END) is None:
        raise ValueError(f"{folder}: the tokenizer has no {END!r} token")
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Fail if the tokenizer has tokens that the model has no embedding for."""
    size = tokenizer.get_vocab_size()
    if size > vocab_size:
        raise ValueError(
            f"the tokenizer has {size} tokens, the model's vocabulary {vocab_size}"
        )


def encode(tokenizer: Tokenizer, documents: list[str]) -> np.ndarray:
    """All documents in one i32[n], an end-of-text token after each."""
    end = tokenizer.token_to_id(END)
    encoded = tokenizer.encode_batch_fast(documents, add_special_tokens=False)
    return np.concatenate([np.array([*e.ids, end], np.int32) for e in encoded])
