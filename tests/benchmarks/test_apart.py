"""The larger runs are what they say, and their table has what was measured."""

import gzip

import numpy as np
import pytest

from benchmarks import apart


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


def test_a_table_has_every_claim_at_every_rate(mnist):
    workload = apart.mnist(mnist, epochs=12.0)
    assert workload.horizon == 120
    text = apart.table([workload], seeds=(0,))
    rows = [line.split("|")[1:-1] for line in text.splitlines() if "|" in line]
    assert [row[0].strip() for row in rows[2:]] == [
        "nudge",
        "search",
        "constant",
        "constant + average",
        "nudge with `total_steps`, last, over warm-up-stable-decay",
    ]
    ratios = [[float(cell.split()[0]) for cell in row[1:]] for row in rows[2:]]
    assert np.isfinite(ratios).all()
    constant, nudge = ratios[2], ratios[0]
    assert nudge[0] < constant[0]  # a hundredth of the rate


def test_any_text_is_read_and_its_end_held_out(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("To be, or not to be! " * 500)
    workload = apart.shakespeare(file, steps=90)
    assert workload.horizon == 80 and workload.optimizer == "adamw"


@pytest.mark.parametrize("make", [apart.mnist, apart.shakespeare])
def test_missing_data_is_named(make, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; give"):
        make(tmp_path / "nothing")
