"""The fine-tuning again, each time without one mechanism: what each has earned."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import adaptive_optax as ao
from examples import mechanisms
from examples.gpt2 import sharding
from examples.gpt2.config import Config
from examples.mechanisms import SKIPPED, Outcome


def ablation(config: Config, make: Callable[[Config], Any], folder: Path) -> float:
    """Print and keep the table, draw the run with everything.

    Args:
      config: Of that run.
      make: `finetune.Run`.
      folder: Where to, if ``config.output`` does not say it.

    Returns:
      The validation loss of the first run with everything.

    Raises:
      FileExistsError: If the folder holds anything.
      ValueError: If the run is to be resumed.
    """
    if config.resume:
        raise ValueError("--ablate begins anew and saves nothing; leave --resume out")
    folder, losses = config.output or folder, []
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty; give another --output")

    def run(name: str, config: Config) -> Outcome:
        outcome, history = trained(make(config), f"{name}, seed {config.seed}")
        if not losses:  # everything comes first
            folder.mkdir(parents=True, exist_ok=True)
            title = f"GPT-2, {config.optimizer}: validation loss {outcome.loss:.3f}"
            ao.plot_history(history, title=title, path=folder / "plot.png")
            title = "GPT-2, blocks that rest"
            mechanisms.draw_freezing(history, title, folder / "freezing.png")
        losses.append(outcome.loss)
        return outcome

    once = dataclasses.replace(config, ablate=False, output=folder)
    table = mechanisms.ablate(once, run, config.seeds)
    (folder / "ablation.md").write_text(f"{table}\n", "utf-8")
    print(f"{table}\nthe table is in {folder / 'ablation.md'}, the loop beside it")
    return losses[0]


def trained(run: Any, name: str) -> tuple[Outcome, ao.History]:
    """A `finetune.Run` from its first step to its last; nothing is saved."""
    history, began = ao.History(), time.process_time()
    for step in tqdm(range(run.total), desc=name, unit="step"):
        batch = sharding.place_batch(next(run.batches), run.mesh)
        run.state, told = run.step(run.state, batch)
        history.append(told)
        if step == 0:  # which compiles
            jax.block_until_ready(told)
            began = time.process_time()
    jax.block_until_ready(run.state)
    seconds = (time.process_time() - began) / max(run.total - 1, 1)
    skipped = history.as_dict().get(SKIPPED, np.zeros(1)).mean()
    last = run.mean_loss(run.state.params, run.held_out())
    return Outcome(run.validate(), last, seconds, float(skipped)), history
