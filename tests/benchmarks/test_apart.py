"""The larger runs are what they say, and their table has what was measured."""

import gzip
import sys

import jax
import numpy as np
import pytest

from benchmarks import apart
from benchmarks.experiment import Curves


def idx(path, array):
    header = np.array([0x0800 + array.ndim, *array.shape], ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def mnist(tmp_path):
    rng = np.random.default_rng(0)
    for split, n in (("train", 640), ("t10k", 50)):
        labels = rng.integers(0, 10, n).astype(np.uint8)
        images = rng.integers(0, 50, (n, 28, 28)).astype(np.uint8)
        images[np.arange(n), labels] += 200  # a row that tells the digit
        idx(tmp_path / f"{split}-images-idx3-ubyte.gz", images)
        idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_a_table_has_every_claim_at_every_rate(mnist, monkeypatch):
    def run(problem, peer, inner, rates, instances, seeds):
        """As if the final metric were half of the distance from 1e-3, in decades."""
        finals = 1.0 + 0.5 * np.abs(np.log10(np.asarray(rates) / 1e-3))
        last = np.ones((len(rates), 1, len(seeds), 11)) * 9.0
        last[..., -1] = finals[..., None] * (2.0 if peer.name == "constant" else 1.0)
        return Curves(last, 0.9 * last, 0.8 * last, None, 0.0, 0.0)

    monkeypatch.setattr(apart.experiment, "run", run)
    run_apart = apart.on_mnist(mnist, epochs=12.0)
    problem = run_apart.problem
    assert problem.horizon == 120
    batch = problem.batch(jax.random.key(0), 0, ())
    params = problem.init(jax.random.key(0), ())
    assert np.isfinite(problem.loss(params, batch, None)[0])
    text = "\n".join(apart.table(run_apart, seeds=(0, 1)))
    assert "cosine 1.0000 at its best rate, 0.001" in text
    rows = [line.split("|")[1:-1] for line in text.splitlines() if "|" in line]
    claims = {
        row[0].strip(): [float(c.split()[0]) for c in row[1:]] for row in rows[2:]
    }
    distance = np.array([1.0, 0.5, 0.25, 0.0, 0.25, 0.5, 1.0])

    def over(times):
        return pytest.approx((times * (1 + distance)).tolist(), abs=0.011)

    assert claims == {
        "nudge": over(0.8),
        "search": over(0.8),
        "constant": over(2.0),
        "constant + average": over(1.8),
        "nudge with `total_steps`, last, over warm-up-stable-decay": over(1.0),
    }


def test_any_text_is_read_and_its_end_held_out(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("To be, or not to be! " * 500)
    run = apart.on_text(file, steps=90)
    assert run.problem.horizon == 90 and run.optimizer == "adamw"


@pytest.mark.parametrize("make", [apart.on_mnist, apart.on_text])
def test_missing_data_is_named(make, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; give"):
        make(tmp_path / "nothing")


def test_missing_data_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("tyro")
    from benchmarks import __main__

    given = ["benchmarks", "apart", "--text", str(tmp_path / "nothing.txt")]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit, match="^benchmarks: .*nothing.txt: no such file"):
        __main__.main()
