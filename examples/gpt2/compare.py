"""Pretrain a nano GPT-2 on one corpus, fine-tune it on another, compare the rates.

    python -m examples.gpt2.compare --data-dir wikitext-2 --output comparison

The folder holds ``valid.txt`` and ``test.txt``. The model is pretrained on CPython's
reference manual, then fine-tuned with AdamW on the first nine tenths of valid and
tested on test. The peak of the cosine is tuned on the last tenth of valid; the
constant rate is that peak, and so is the base rate x1 of the controller. Every run has
the same batches for the same seed. What is done is kept in ``results.json``, and a
second call goes on from there.
"""

import functools
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import tyro

import adaptive_optax as ao
from examples.gpt2 import config as settings
from examples.gpt2.data import Blocks, all_batches, python_topics, read_text
from examples.gpt2.model import GPT2Config, preset
from examples.gpt2.optimizer import is_kernel, make_optimizer
from examples.gpt2.report import report
from examples.gpt2.tokenizer import byte_level, encode
from examples.gpt2.training import (
    init_params,
    init_state,
    make_evaluation,
    make_step,
)
from examples.gpt2.weights import load_params, save_checkpoint

SHOWN = ("loss", "learning_rate", "frozen_fraction", "steps")


@dataclass(frozen=True)
class Config:
    """What to run."""

    data_dir: Path
    """Folder with valid.txt, to fine-tune on, and test.txt."""
    output: Path = Path("runs/comparison")
    """Where results, plot and table go."""
    pretrain_steps: int = 800
    """Steps of pretraining."""
    steps: int = 400
    """Steps of fine-tuning."""
    batch_size: int = 8
    """Sequences in one step."""
    seq_len: int = 64
    """Bytes in one sequence."""
    seeds: int = 3
    """Orders of the fine-tuning batches."""
    grid: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Peaks of the cosine to choose from."""
    test_blocks: int = 1024
    """Sequences of the test text that are looked at, evenly spaced."""


class Comparison:
    """The data, the pretrained model, and one compiled run for every kind of rate."""

    def __init__(self, config: Config):
        """Read and cut the texts; nothing is trained yet."""
        tokenizer, length = byte_level(), config.seq_len
        self.config, self.model = config, preset("nano")
        valid, test = (
            encode(tokenizer, [read_text(config.data_dir / f"{name}.txt")])
            for name in ("valid", "test")
        )
        cut = len(valid) * 9 // 10
        self.train = Blocks(valid[:cut], length)
        self.dev = spaced(Blocks(valid[cut:], length), config.test_blocks)
        self.test = spaced(Blocks(test, length), config.test_blocks)
        self.manual = Blocks(encode(tokenizer, python_topics().train), length)
        self.evaluate = make_evaluation(self.model)

    def settings(self) -> dict[str, Any]:
        """What all results of a comparison must have in common."""
        names = ("pretrain_steps", "steps", "batch_size", "seq_len", "test_blocks")
        texts = {"pretrain_on": self.manual.digest(), "train_on": self.train.digest()}
        return {name: getattr(self.config, name) for name in names} | texts

    @functools.cached_property
    def pretrained(self) -> Any:
        """Parameters after pretraining, which is done once."""
        folder, steps = self.config.output / "pretrained", self.config.pretrain_steps
        if folder.is_dir():
            return load_params(folder, self.model)
        schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 100, steps)
        run = make_run(self.model, lambda _: adamw(schedule))
        batches = draw(self.manual, self.config.batch_size, steps, seed=0)
        params, told = run(init_params(self.model, 0), batches, np.float32(0))
        print(f"pretrained: loss {np.mean(told['loss'][-50:]):.4f}", flush=True)
        save_checkpoint(folder, self.model, params, byte_level())
        return params

    def fine_tune(self, kind: str, rate: float, seed: int, blocks: list) -> dict:
        """One run, and the loss on some blocks after it."""
        batches, program = self.batches(seed), self.program(kind)
        wall, cpu = time.perf_counter(), time.process_time()
        params, told = jax.block_until_ready(
            program(self.pretrained, batches, np.float32(rate))
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        told = {key: np.asarray(x).tolist() for key, x in told.items()}
        loss = self.evaluate(params, all_batches(blocks, 32))
        return {"loss": loss, "seconds": wall, "cpu": cpu, "told": told}

    def batches(self, seed: int) -> dict:
        """The batches of fine-tuning."""
        return draw(self.train, self.config.batch_size, self.config.steps, seed + 1)

    @functools.cache  # noqa: B019 (there is one comparison)
    def program(self, kind: str) -> Callable:
        """A run of this kind, compiled, for any rate."""
        steps = self.config.steps
        optimizer = {
            "constant": adamw,
            "cosine": lambda r: adamw(optax.cosine_decay_schedule(r, steps)),
            "search": controlled("search", steps, self.pretrained),
            "nudge": controlled("nudge", steps, self.pretrained),
        }[kind]
        run = make_run(self.model, optimizer)
        return run.lower(self.pretrained, self.batches(0), np.float32(1)).compile()


def adamw(rate: Any) -> optax.GradientTransformationExtraArgs:
    """As the example's AdamW, without a controller."""
    tx = optax.adamw(rate, weight_decay=0.01, mask=is_kernel)
    return optax.with_extra_args_support(tx)


def controlled(mode: str, steps: int, params: Any) -> Callable:
    """The example's AdamW under the controller, of whose gains only the rate moves."""

    def make(rate):
        options = settings.Config(
            optimizer="adamw",
            learning_rate=rate,
            mode=mode,
            momentum_rule="hold",
            freeze_threshold=0.0,
            lr_bounds=(1e-7, 1.0),
        )
        return make_optimizer(options, params, steps)

    return make


def make_run(model: GPT2Config, optimizer: Callable) -> Callable:
    """(parameters, stacked batches, rate) to the parameters to judge, and the log."""

    @jax.jit
    def run(params, batches, rate):
        tx = optimizer(rate)
        step, start = make_step(model, tx), init_state(params, tx, 0)
        state, told = jax.lax.scan(step, start, batches)
        told = {key: told[key] for key in SHOWN if key in told}
        try:
            return ao.eval_params(state.opt_state, state.params), told
        except ValueError:  # the plain optimizer keeps no average
            return state.params, told

    return run


def draw(blocks: Blocks, batch_size: int, steps: int, seed: int) -> dict:
    """Stacked batches [steps, batch, ...], every block at most once an epoch."""
    rng, need = np.random.default_rng(seed), steps * batch_size
    orders = [rng.permutation(len(blocks)) for _ in range(-(-need // len(blocks)))]
    rows = [blocks[i] for i in np.concatenate(orders)[:need]]
    return {
        key: np.stack([row[key] for row in rows]).reshape(
            steps, batch_size, *rows[0][key].shape
        )
        for key in rows[0]
    }


def spaced(blocks: Blocks, count: int) -> list[dict]:
    """Evenly spaced blocks."""
    chosen = np.linspace(0, len(blocks) - 1, min(count, len(blocks))).astype(int)
    return [blocks[i] for i in chosen]


def methods(base: float) -> dict[str, tuple[str, float]]:
    """What is compared: name to kind and rate."""
    return {
        "constant": ("constant", base),
        "tuned cosine": ("cosine", base),
        "controller, search, x0.01": ("search", base / 100),
        "controller, search, x1": ("search", base),
        "controller, search, x100": ("search", base * 100),
        "controller, nudge, x1": ("nudge", base),
    }


def main(config: Config) -> dict[str, Any]:
    """Run what is not done yet, write the table and the plot."""
    comparison = Comparison(config)
    config.output.mkdir(parents=True, exist_ok=True)
    path, told = config.output / "results.json", comparison.settings()
    results = json.loads(path.read_text("utf-8")) if path.is_file() else told
    if changed := [name for name, x in told.items() if results.get(name) != x]:
        raise ValueError(
            f"{path} is of another comparison ({', '.join(changed)} changed); give "
            "another --output"
        )

    def run(name: str, kind: str, rate: float, seed: int, blocks: list) -> float:
        key = f"{name}, seed {seed}"
        if key not in results:
            results[key] = comparison.fine_tune(kind, rate, seed, blocks)
            path.write_text(json.dumps(results), "utf-8")
            print(f"{key}: loss {results[key]['loss']:.4f}", flush=True)
        return results[key]["loss"]

    peaks = {
        rate: run(f"tuning {rate:g}", "cosine", rate, 0, comparison.dev)
        for rate in config.grid
    }
    base = min(peaks, key=lambda rate: (not math.isfinite(peaks[rate]), peaks[rate]))
    print(f"the tuned peak is {base:g}", flush=True)
    if "untouched" not in results:
        batches = all_batches(comparison.test, 32)
        results["untouched"] = comparison.evaluate(comparison.pretrained, batches)
    for seed in range(config.seeds):
        for name, (kind, rate) in methods(base).items():
            run(name, kind, rate, seed, comparison.test)
    report(config.output, results, methods(base), config.seeds)
    return results


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
