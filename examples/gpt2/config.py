"""What a run of `finetune` is told, and the checks that need no data."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Config:
    """What to run. The controller's settings are those of `adaptive_scheduler`."""

    preset: str = "nano"
    """Random weights of this size: gpt2, gpt2-medium, gpt2-large, gpt2-xl or nano."""
    checkpoint: str | None = None
    """Or these weights and their tokenizer: a folder, or a name on the hub."""
    dataset: Literal["topics", "wikitext"] = "topics"
    """CPython's own reference manual, or WikiText-2 raw through `datasets`."""
    train_file: Path | None = None
    """Or any UTF-8 text; needs --valid-file."""
    valid_file: Path | None = None
    """The text to validate on; needs --train-file."""
    seq_len: int = 128
    """Tokens in one sequence."""
    batch_size: int = 8
    """Sequences in one optimizer step."""
    accumulate: int = 1
    """Micro-batches that a batch is cut into, where it does not fit at once."""
    epochs: int = 2
    """Passes over the training text."""
    steps: int | None = None
    """Steps to take at most; by default all of the epochs."""

    optimizer: Literal["sgd", "adamw", "muon"] = "adamw"
    """The inner optimizer."""
    learning_rate: float = 2e-3
    """Its base rate; the loop starts there."""
    momentum: float = 0.9
    """Its base momentum."""
    weight_decay: float = 0.01
    """Of the blocks' kernels under adamw and muon; sgd has none."""
    mode: Literal["nudge", "search", "safe"] = "nudge"
    """How far to believe the base rate; search takes it for a guess."""
    momentum_rule: Literal["hold", "auto", "alignment", "trend"] = "trend"
    """What moves the momentum; trend: a longer memory while the loss falls."""
    sigma: float = 1e-3
    """Noise on the parameters, relative to the root mean square of each tensor."""
    sigma_rule: Literal["success", "auto"] = "success"
    """What moves sigma; auto: it is 0 but in single kicks on a plateau."""
    lr_bounds: tuple[float, float] = (1e-6, 5e-2)
    """Of the learning rate."""
    mu_bounds: tuple[float, float] = (0.0, 0.95)
    """Of the momentum."""
    sigma_bounds: tuple[float, float] = (0.0, 1e-2)
    """Of sigma."""
    ema_decay: float = 0.9
    """Of the fast loss trend, and of the gradient norms that freezing looks at."""
    freeze_threshold: float = 0.13
    """Gradient norm under which a block freezes; 0 freezes nothing."""
    freeze_relative_to: Literal["absolute", "initial", "largest"] = "largest"
    """What the threshold multiplies: 1, the block's own first norm, or the largest."""
    anneal: bool = True
    """Let the rate and sigma fall to 0 over the last 30 % of the run."""
    control: bool = True
    """The loop; without it the optimizer trains alone, at its base rate."""
    average: bool = True
    """Keep averaged parameters, and validate, sample and save those."""
    recovery: bool = True
    """Keep a good copy of parameters and optimizer, to go back to."""
    ablate: bool = False
    """Train without each mechanism in turn, and print what each has earned."""
    seeds: int = 1
    """Runs of each with --ablate."""

    dropout: float = 0.0
    """Of embeddings, attention and residual branches."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products; parameters stay float32."""
    scan_layers: bool = False
    """Stack the layers: compiles once, not once a layer."""
    remat: bool = False
    """Recompute activations in the backward pass."""
    mesh: str = "1,1"
    """DATA,MODEL: devices that split the batch, and devices that split the weights."""
    seed: int = 0
    """Of random weights, order, dropout, noise and sample."""

    output: Path | None = None
    """Folder of the run; by default a new one in runs/."""
    resume: bool = False
    """Continue the run in --output; by default the newest in runs/."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""
    log_every: int = 50
    """Steps between two lines."""
    prompt: str = "The "
    """What the sample continues."""
    sample_tokens: int = 200
    """Length of the sample."""


# What may differ between a run and its continuation: it changes no number of the run.
FREE = {
    *("output", "resume", "log_every", "checkpoint_every"),
    *("prompt", "sample_tokens", "ablate", "seeds"),
}


def check(config: Config) -> None:
    """Fail on a number that no run can have.

    Raises:
      ValueError: If there is one.
    """
    for name in (
        *("seq_len", "batch_size", "accumulate", "epochs"),
        *("log_every", "checkpoint_every"),
    ):
        if (value := getattr(config, name)) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be at least 1, got {value}")
    if config.steps is not None and config.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {config.steps}")
    if config.batch_size % config.accumulate:
        raise ValueError(
            f"--batch-size {config.batch_size} cannot be cut into --accumulate "
            f"{config.accumulate} equal parts"
        )
    low, high = config.lr_bounds
    if not low <= config.learning_rate <= high:
        raise ValueError(
            f"--learning-rate {config.learning_rate:g} lies outside --lr-bounds "
            f"{low:g} {high:g}; give wider ones"
        )
    if (config.train_file is None) != (config.valid_file is None):
        raise ValueError("--train-file and --valid-file need each other, got one")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"--dropout must lie in [0, 1), got {config.dropout}")
    if config.sample_tokens < 0:
        raise ValueError(
            f"--sample-tokens must be at least 0, got {config.sample_tokens}"
        )


def as_json(config: Config, **facts: Any) -> dict[str, Any]:
    """What a continuation must agree on, as JSON has it."""
    kept = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in FREE
    }
    plain = {
        name: str(x) if isinstance(x, Path) else list(x) if isinstance(x, tuple) else x
        for name, x in kept.items()
    }
    return plain | facts


def continued(config: Config, record: dict[str, Any], where: Path) -> Config:
    """The configuration of a run that is resumed: its own, where flags have defaults.

    Raises:
      ValueError: If a flag is given that the run was not begun with.
    """
    asked, begun = as_json(config), {}
    for field in dataclasses.fields(config):
        name = field.name
        if name in FREE or name not in record:
            continue
        old, default = record[name], getattr(config, name) == field.default
        if not default and asked[name] != old:
            raise ValueError(
                f"--resume: {where} is another run: {name} was {old!r}, now "
                f"{asked[name]!r}"
            )
        path = name in ("train_file", "valid_file") and old is not None
        begun[name] = Path(old) if path else tuple(old) if type(old) is list else old
    return dataclasses.replace(config, **begun)
