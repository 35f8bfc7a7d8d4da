r"""Fine-tune GPT-2 with a learning rate that regulates itself.

    python -m examples.gpt2.finetune                        # nano, nothing downloaded
    python -m examples.gpt2.finetune --resume               # go on after a crash
    python -m examples.gpt2.finetune --ablate --epochs 1    # what each mechanism earns
    python -m examples.gpt2.finetune --checkpoint openai-community/gpt2 \
        --dataset wikitext --optimizer adamw --dtype bfloat16 --seq-len 1024

Prints the validation loss before the first step and after each epoch. The run's folder
gets checkpoints, TensorBoard logs, plot.png, freezing.png and the model as a Hugging
Face checkpoint.
"""

import dataclasses
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tensorboardX import SummaryWriter
from tqdm import tqdm

import adaptive_optax as ao
from examples.gpt2 import config as settings
from examples.gpt2 import data, sharding, training, weights
from examples.gpt2.ablate import ablation
from examples.gpt2.checkpoints import (
    Checkpoints,
    Progress,
    new_folder,
    newest_folder,
    open_run,
    read_record,
)
from examples.gpt2.config import Config
from examples.gpt2.generate import generate
from examples.gpt2.inputs import load_model, load_texts
from examples.gpt2.optimizer import make_optimizer
from examples.gpt2.tokenizer import encode
from examples.mechanisms import check_length, draw_freezing

RUNS = Path("runs")


class Run:
    """One fine-tuning run, from its configuration to its last line."""

    def __init__(self, config: Config):
        """Read and check everything; the folder is only touched when all is sound."""
        newest = newest_folder if config.resume else new_folder
        self.folder = newest(RUNS) if config.output is None else config.output
        if config.resume:
            config = settings.continued(config, read_record(self.folder), self.folder)
        settings.check(config)
        self.config, self.done, self.saved = config, 0, 0  # steps
        self.mesh = sharding.make_mesh(config.mesh)
        self.model, self.tokenizer, source = load_model(config)
        size = (config.batch_size, config.accumulate)
        sharding.check_sizes(self.mesh, *size, self.model.n_head)
        if config.seq_len > (most := self.model.n_positions):
            raise ValueError(
                f"--seq-len {config.seq_len} exceeds the model's {most} positions"
            )
        self.prompt = self._prompt()
        train, self.valid = (
            data.Blocks(encode(self.tokenizer, documents), config.seq_len)
            for documents in load_texts(config)
        )
        self.batches, self.per_epoch = data.training_batches(
            train, config.batch_size, config.epochs, config.seed
        )
        self.total = min(self.per_epoch * config.epochs, config.steps or sys.maxsize)
        if source is None:
            params = training.init_params(self.model, config.seed)
        else:
            params = weights.load_params(source, self.model)
        if config.recovery:
            check_length(config, self.total, "more --steps or --epochs")
        horizon = self.total if config.anneal else None
        self.tx = make_optimizer(config, params, horizon)

        facts = {"train_tokens": train.digest(), "valid_tokens": self.valid.digest()}
        self.record = settings.as_json(config, **facts)

        state = training.init_state(params, self.tx, config.seed)
        self.state = sharding.place(state, self.mesh)
        step = training.make_step(
            self.model,
            self.tx,
            accumulate=config.accumulate,
            freezes=config.control and config.freeze_threshold > 0,
        )
        self.step = jax.jit(step, donate_argnums=0)
        self.mean_loss = training.make_evaluation(self.model)

    def __call__(self) -> float:
        """Train to the end; returns the last validation loss."""
        open_run(self.folder, self.record, resume=self.config.resume)
        print(f"{self.folder}: {self._size() / 1e6:.1f} M parameters", flush=True)
        checkpoints, start, history = Checkpoints(self.folder), 0, ao.History()
        if (found := checkpoints.restore(self.state, self.batches)) is not None:
            start, self.state, history = found
            self.done = self.saved = start
            print(f"resumed at step {start} of {self.total}", flush=True)
        if start == 0:
            print(f"validation loss {self.validate():.3f}", flush=True)

        writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=start)
        try:
            last = self.train(start, history, checkpoints, writer)
        finally:
            writer.close()
            checkpoints.close()
        return self.finish(history, last)

    def train(
        self, start: int, history: ao.History, checkpoints: Checkpoints, writer: Any
    ) -> float:
        """All steps from ``start`` on; returns the last validation loss."""
        config, told = self.config, None
        written, last, began = len(history), math.nan, time.perf_counter()
        print("compiling ...", flush=True)
        with tqdm(total=self.total, initial=start, unit="step") as bar:
            for step in range(start + 1, self.total + 1):
                batch = sharding.place_batch(next(self.batches), self.mesh)
                before = told
                self.state, told = self.step(self.state, batch)
                if before is None:
                    jax.block_until_ready(told)
                    bar.write(f"compiled in {time.perf_counter() - began:.0f} s")
                else:  # one step is on its way while the bar tells the one before
                    bar.set_postfix_str(f"loss {before['loss']:.3f}", refresh=False)
                bar.update()
                self.done = step
                ends = step % self.per_epoch == 0 or step == self.total
                if ends:
                    last = self.validate()
                    bar.write(f"step {step}: validation loss {last:.3f}")
                history.append({**told, "validation_loss": last} if ends else told)
                if step % config.log_every == 0:
                    bar.write(
                        training.line(1 + (step - 1) // self.per_epoch, step, told)
                    )
                    history.write_to(writer, since=written)
                    written = len(history)
                if step % config.checkpoint_every == 0 or ends:
                    checkpoints.save(Progress(step, self.state, history), self.batches)
                    self.saved = step
        history.write_to(writer, since=written)
        return last

    def finish(self, history: ao.History, last: float) -> float:
        """Say, draw and save what has come out."""
        last = self.validate() if math.isnan(last) else last
        print(f"final loss {last!r}, perplexity {math.exp(last):.2f}")
        if self.config.sample_tokens:
            print(f"sample: {self.sample()}")
        title = f"GPT-2, {self.config.optimizer}: validation loss {last:.3f}"
        ao.plot_history(history, title=title, path=self.folder / "plot.png")
        title = "GPT-2, blocks that rest"
        if draw_freezing(history, title, rests := self.folder / "freezing.png"):
            print(f"what has rested is drawn in {rests}")
        if not (target := self.folder / "model").exists():
            params = jax.device_get(self.evaluated())
            weights.save_checkpoint(target, self.model, params, self.tokenizer)
        print(f"the loop is drawn in {self.folder / 'plot.png'}, the model in {target}")
        return last

    def evaluated(self):
        """The parameters to validate, sample and save: the average, if there is one."""
        if not (self.config.average and self.config.control):
            return self.state.params
        return ao.eval_params(self.state.opt_state, self.state.params)

    def validate(self) -> float:
        """Mean cross-entropy of the validation text, in nats a token."""
        return self.mean_loss(self.evaluated(), self.held_out())

    def held_out(self):
        """The validation text in batches, where the devices want it."""
        batches = data.all_batches(self.valid, self.config.batch_size)
        return (sharding.place_batch(batch, self.mesh) for batch in batches)

    def sample(self) -> str:
        """The prompt and its continuation."""
        length = self.config.sample_tokens
        tokens = generate(
            dataclasses.replace(self.model, remat=False),
            self.evaluated(),
            jnp.asarray(self.prompt[None]),
            length,
            key=jax.random.key(self.config.seed),
            temperature=0.8,
        )
        return self.tokenizer.decode([*self.prompt.tolist(), *tokens[0].tolist()])

    def _prompt(self) -> np.ndarray:
        """As tokens, with room for the sample."""
        config = self.config
        prompt = encode(self.tokenizer, [config.prompt])[:-1]
        if not config.sample_tokens:
            return prompt
        if not len(prompt):
            raise ValueError(f"--prompt must hold text, got {config.prompt!r}")
        if len(prompt) + config.sample_tokens > (most := self.model.n_positions):
            raise ValueError(
                f"--prompt and --sample-tokens, {len(prompt)} and "
                f"{config.sample_tokens}, exceed the model's {most} positions"
            )
        return prompt

    def _size(self) -> int:
        return sum(x.size for x in jax.tree.leaves(self.state.params))


def main(config: Config) -> float:
    """Run it; returns the last validation loss."""
    run = None
    try:
        if config.ablate:
            return ablation(config, Run, new_folder(RUNS))
        run = Run(config)
        return run()
    except KeyboardInterrupt:
        at = "before the first step"
        if run:
            at = f"at step {run.done}, the last checkpoint is of step {run.saved}"
        again = f"--resume --output {shlex.quote(str(run.folder))}" if run else ""
        sys.exit(f"\nstopped {at}; go on with python -m examples.gpt2.finetune {again}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
