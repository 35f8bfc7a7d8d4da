"""What a run starts from: the architecture, its weights, and the texts."""

from pathlib import Path

from tokenizers import Tokenizer

from examples.gpt2 import data, weights
from examples.gpt2.config import Config
from examples.gpt2.model import GPT2Config, preset
from examples.gpt2.tokenizer import byte_level, check_vocabulary, load_tokenizer


def load_model(config: Config) -> tuple[GPT2Config, Tokenizer, Path | None]:
    """The architecture, the tokenizer, and the weights' folder if there is one."""
    run = {name: getattr(config, name) for name in ("dropout", "dtype", "remat")}
    run["scan_layers"] = config.scan_layers
    if config.checkpoint is None:
        tokenizer = byte_level()
        size = tokenizer.get_vocab_size()
        return preset(config.preset, vocab_size=size, **run), tokenizer, None
    folder = weights.resolve(config.checkpoint)
    model, tokenizer = weights.load_config(folder, **run), load_tokenizer(folder)
    check_vocabulary(tokenizer, model.vocab_size)
    return model, tokenizer, folder


def load_texts(config: Config) -> data.Texts:
    """What to train on, and what to validate on."""
    if config.train_file is not None and config.valid_file is not None:
        return data.text_files(config.train_file, config.valid_file)
    return {"topics": data.python_topics, "wikitext": data.wikitext}[config.dataset]()
