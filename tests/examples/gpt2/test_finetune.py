import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import mechanisms
from examples.gpt2 import config as settings
from examples.gpt2 import finetune, weights
from examples.gpt2.config import Config
from examples.gpt2.model import GPT2Config
from examples.gpt2.tokenizer import byte_level
from examples.gpt2.training import init_params

ROOT = Path(__file__).parents[3]
TINY = GPT2Config(257, n_positions=32, n_embd=16, n_layer=2, n_head=2)
WORDS = "the cat sat on the mat and the dog ran to the old red barn ".split()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A checkpoint to start from and two texts."""
    folder = tmp_path_factory.mktemp("inputs")
    weights.save_checkpoint(folder / "tiny", TINY, init_params(TINY, 0), byte_level())
    rng = np.random.default_rng(0)
    for name, n in (("train", 700), ("valid", 60)):
        (folder / f"{name}.txt").write_text(" ".join(rng.choice(WORDS, n)))
    return folder


@pytest.fixture
def config(inputs, tmp_path):
    return Config(
        checkpoint=str(inputs / "tiny"),
        train_file=inputs / "train.txt",
        valid_file=inputs / "valid.txt",
        seq_len=16,
        batch_size=8,
        epochs=3,
        optimizer="sgd",
        learning_rate=0.05,
        mode="search",
        freeze_threshold=1e-4,
        freeze_relative_to="absolute",
        scan_layers=True,
        dropout=0.1,
        output=tmp_path / "run",
        log_every=1,
        checkpoint_every=3,
        prompt="the ",
        sample_tokens=8,
    )


def command(config):
    flags = []
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), f"--{field.name.replace('_', '-')}"
        if value == field.default:
            continue
        if value is True:
            flags.append(flag)
        else:
            flags += [flag, *map(str, value if isinstance(value, tuple) else [value])]
    return [sys.executable, "-m", "examples.gpt2.finetune", *flags]


def run(config):
    return subprocess.run(command(config), cwd=ROOT, capture_output=True, text=True)


# Three runs in processes of their own; contract/test_checkpoints.py resumes to the bit
# in the README's command.
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="often saved, freezing"),
        # Quicker to compile, and keeps all else: copies, averages, noise, keys.
        pytest.param({"freeze_threshold": 0.0, "checkpoint_every": 15}, id="without"),
    ],
)
def test_a_run_killed_at_any_step_ends_as_if_it_had_not_been(config, tmp_path, changes):
    config = dataclasses.replace(config, **changes)
    whole = run(config)
    assert whole.returncode == 0, whole.stderr
    losses = re.findall(r"validation loss (\d\.\d{3})", whole.stdout)
    assert len(losses) == 1 + config.epochs
    assert float(losses[-1]) < float(losses[0]) - 0.3

    steps = int(re.findall(r"step (\d+) loss", whole.stdout)[-1])
    fatal = random.randrange(2, steps - 1)  # another one every time, on purpose
    print(f"killed at step {fatal} of {steps}")
    killed = dataclasses.replace(config, output=tmp_path / "killed")
    process = subprocess.Popen(
        command(killed), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    for line in process.stdout:
        if f" step {fatal} ".encode() in line:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "killed" / "plot.png").exists()

    resumed = run(dataclasses.replace(killed, resume=True))
    assert resumed.returncode == 0, resumed.stderr
    final = re.findall(r"final loss \S+", whole.stdout)
    assert re.findall(r"final loss \S+", resumed.stdout) == final

    last = [
        json.loads((tmp_path / name / "config.json").read_text())
        for name in ("run", "killed")
    ]
    assert last[0] == last[1]
    for name in ("run", "killed"):
        folder = tmp_path / name
        assert (folder / "plot.png").stat().st_size > 10_000
        assert list((folder / "tensorboard").iterdir())
    ours, theirs = (
        (tmp_path / name / "model" / "model.safetensors").read_bytes()
        for name in ("run", "killed")
    )
    assert ours == theirs
    line = r"epoch 1 step 1 loss \d\.\d+ lr 5.00e-03 mu 0\.900 sigma 1\.0e-03 frozen 0%"
    assert re.search(line, whole.stdout)
    assert "sample: the " in whole.stdout

    refused = run(config)
    assert refused.returncode == 1
    told = refused.stderr.splitlines()[-1]
    assert told.startswith("error: ") and "is not empty; --resume continues" in told
    other = dataclasses.replace(config, resume=True, learning_rate=0.04)
    with pytest.raises(ValueError, match="^--resume: .*rate was 0.05, now 0.04"):
        finetune.main(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": None, "preset": "gpt5"}, "unknown preset 'gpt5'; there are"),
        ({"seq_len": 33}, "--seq-len 33 exceeds the model's 32 positions"),
        ({"sample_tokens": 30}, "4 and 30, exceed the model's 32 positions"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"accumulate": 3}, "--batch-size 8 cannot be cut into --accumulate 3"),
        ({"batch_size": 4000}, "less than one batch of 4000"),
        ({"valid_file": None}, "need each other"),
        ({"prompt": ""}, "--prompt must hold text, got ''"),
        ({"mesh": "9,1"}, "needs 9 devices"),
        ({"dropout": 1.0}, r"--dropout must lie in \[0, 1\), got 1.0"),
        ({"learning_rate": 1.0}, "rate 1 lies outside --lr-bounds 1e-06 0.05; give"),
        ({"resume": True}, "--resume: .* holds no run"),
        ({"resume": True, "ablate": True}, "saves nothing; leave --resume out"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
    ],
)
def test_bad_input_is_one_line_and_touches_nothing(config, changes, message):
    with pytest.raises((ValueError, OSError), match=message) as caught:
        finetune.main(dataclasses.replace(config, **changes))
    assert "\n" not in str(caught.value)
    assert not config.output.exists()


def test_a_run_is_resumed_without_repeating_its_flags(config, tmp_path):
    record = settings.as_json(config, train_tokens="a digest")
    bare = Config(resume=True, output=config.output, log_every=7)
    found = settings.continued(bare, record, tmp_path)
    assert settings.as_json(found) == settings.as_json(config)
    assert found.resume and found.log_every == 7
    assert found.train_file == config.train_file
    with pytest.raises(ValueError, match="another run: epochs was 3, now 4"):
        settings.continued(dataclasses.replace(bare, epochs=4), record, tmp_path)


def test_an_ablation_compares_and_draws(config, capsys, monkeypatch):
    name = "optimizer alone, constant rate"
    monkeypatch.setattr(mechanisms, "WITHOUT", {name: mechanisms.WITHOUT[name]})
    small = {"ablate": True, "steps": 3, "anneal": False, "sample_tokens": 0}
    loss = finetune.main(dataclasses.replace(config, **small))
    table = (config.output / "ablation.md").read_text()
    assert f"| everything | {loss:.4f} | 1.000 |" in table
    assert f"| {name} | " in table
    assert table in capsys.readouterr().out
    for drawn in ("plot.png", "freezing.png"):
        assert (config.output / drawn).stat().st_size > 5_000


def test_ctrl_c_says_how_to_go_on(config, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune.Run, "train", interrupted)
    told = "at step 0, the last checkpoint is of step 0; .*--resume --output .*run"
    with pytest.raises(SystemExit, match=told):
        finetune.main(config)


def test_a_checkpoint_whose_vocabulary_is_too_small(config, tmp_path):
    small = dataclasses.replace(TINY, vocab_size=200)
    folder = tmp_path / "small"
    weights.save_checkpoint(folder, small, init_params(small, 0), byte_level())
    with pytest.raises(ValueError, match="257 tokens, the model's vocabulary 200"):
        finetune.main(dataclasses.replace(config, checkpoint=str(folder)))


def test_runs_are_numbered(tmp_path):
    from examples.gpt2.checkpoints import new_folder, newest_folder

    with pytest.raises(FileNotFoundError, match="there is no run in"):
        newest_folder(tmp_path)
    for number in (1, 2):
        folder = new_folder(tmp_path)
        assert folder == tmp_path / f"gpt2-00{number}"
        folder.mkdir()
        assert newest_folder(tmp_path) == folder
