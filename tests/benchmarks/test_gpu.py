import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks.budget import Budget
from tests import xla

ROOT = Path(__file__).parents[2]

needs_no_gpu = pytest.mark.skipif(
    jax.default_backend() == "gpu", reason="the point is that there is no GPU"
)


@needs_no_gpu
@pytest.mark.parametrize("how", [["-m", "benchmarks.gpu"], ["benchmarks/gpu.py"]])
def test_without_a_gpu_it_says_so_in_one_line(how, tmp_path):
    output = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, *how, "--output", output],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()[-1]
    assert "needs a GPU" in said and "CpuDevice" in said and "--allow-cpu" in said
    assert done.stdout == "" and not output.exists()


# Half a minute of compiling: all that reads it is slow.
@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of the command, in a process whose compiler does not optimise."""
    output = tmp_path_factory.mktemp("gpu") / "deep" / "gpu.json"
    arguments = (
        "--preset nano --steps 12 --repeats 2 --calls 1 --budget 3600 --allow-cpu"
    ).split()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments, "--output", output],
        cwd=ROOT,
        env=os.environ
        | {
            "XLA_FLAGS": " ".join(xla.known(xla.WANTED)),
            "JAX_NUM_CPU_DEVICES": "1",
        },
        check=True,
    )
    return json.loads(output.read_text())


def ratios(section):
    return {
        name: row["step_time_over_plain"]["median"]
        for name, row in section["rows"].items()
        if name != section["over"]
    }


@pytest.mark.slow
def test_every_section_is_measured(report):
    sections = report["sections"]
    assert list(sections) == [
        "overhead",
        "training",
        "freezing",
        "dither",
        "overhead_5m",
    ]
    for name in ("overhead", "freezing", "dither", "overhead_5m"):
        assert all(0 < ratio < math.inf for ratio in ratios(sections[name]).values())
    assert list(ratios(sections["overhead"])) == ["plain again", "control law only"]
    assert list(ratios(sections["dither"])) == ["sigma = 0 again", "param_rms"]
    assert report["environment"]["jax"] == jax.__version__


@pytest.mark.slow
def test_freezing_is_measured_by_mask_and_by_skipping(report):
    shares = ["nothing frozen", "half frozen", "all frozen"]
    assert list(ratios(report["sections"]["freezing"])) == [
        f"{way}, {share}" for way in ("mask", "skip") for share in shares
    ]


@pytest.mark.slow
def test_the_training_run_trains(report):
    rows = report["sections"]["training"]["rows"]
    assert set(rows) == {"constant", "nudge"}
    for row in rows.values():
        assert row["steps"] == row["steps_asked"] == len(row["losses"]) == 12
        assert row["tokens_per_second"] > 0
        assert 0 < row["held_out_loss"] < 8 and 0 < row["held_out_loss_averaged"] < 8
    # The same parameters, the same first batch.
    assert rows["constant"]["losses"][0] == rows["nudge"]["losses"][0]
    assert rows["constant"]["learning_rates"] == []
    assert rows["constant"]["losses"][-1] < rows["constant"]["losses"][0]
    # Ours is still warming up.
    rates = rows["nudge"]["learning_rates"]
    assert len(rates) == 12 and rates == sorted(rates) and rates[0] < rates[-1]


def test_what_does_not_fit_the_budget_is_recorded_as_skipped():
    budget = Budget(1.0)  # less than a first piece is taken to need
    found = budget.piece("training", lambda: {"never": "run"})
    assert found == {"skipped": found["skipped"]}
    assert "'training' needs about 20 s" in found["skipped"]


def test_what_raises_is_recorded():
    def fails():
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nand more")

    found = Budget(100.0).piece("overhead", fails)
    assert found == {"error": "RuntimeError: RESOURCE_EXHAUSTED: out of memory"}
