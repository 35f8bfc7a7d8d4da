import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

for needed in ("flax", "matplotlib", "mlxtend", "tqdm", "tyro"):
    pytest.importorskip(needed)

from examples import mechanisms, mnist, mnist_config  # noqa: E402

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def idx(array, magic=None):
    header = [0x0800 + array.ndim if magic is None else magic, *array.shape]
    return np.array(header, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_mnist(folder, zipped=(), n=64):
    """Four files of learnable images: the label's row of pixels is bright."""
    for split in ("train", "t10k"):
        labels = RNG.integers(0, 10, n)
        images = RNG.integers(0, 50, (n, 28, 28))
        images[np.arange(n), labels] = 255
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{split}-{name}-ubyte"
            if split in zipped:
                Path(f"{path}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))


def test_bundled_images_are_split_evenly_and_always_alike():
    first, again = mnist.bundled_mnist(), mnist.bundled_mnist()
    np.testing.assert_array_equal(np.bincount(first.train[1]), [400] * 10)
    np.testing.assert_array_equal(np.bincount(first.test[1]), [100] * 10)
    for a, b in zip(first.train + first.test, again.train + again.test, strict=True):
        np.testing.assert_array_equal(a, b)
    train = {image.tobytes() for image in first.train[0]}
    assert not train & {image.tobytes() for image in first.test[0]}


@pytest.mark.parametrize("zipped", [(), ("train",), ("train", "t10k")])
def test_idx_files_plain_and_gzipped(tmp_path, zipped):
    write_mnist(tmp_path, zipped)
    data = mnist.idx_mnist(tmp_path)
    images, labels = data.train
    assert images.shape == (64, 28, 28)
    assert (images[np.arange(64), labels] == 255).all()
    flat, labels = mnist.prepare(images, labels)
    assert flat.shape == (64, 784)
    assert flat.max() == 1.0


IMAGES = idx(np.zeros((2, 28, 28)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"train-images-idx3-ubyte: no such file, plain or with \.gz"),
        (b"", "0 bytes; a header of 16 is expected"),
        (IMAGES[:10], "10 bytes; a header of 16 is expected"),
        (IMAGES[:-1], r"1583 bytes; 1584 are expected for \[2, 28, 28\]"),
        (IMAGES + b"x", "1585 bytes; 1584 are expected"),
        (idx(np.zeros((2, 28, 28)), magic=2049), "magic number 2049; 2051 is expected"),
        (gzip.compress(IMAGES)[:-9], "damaged or truncated gzip"),
        (gzip.compress(IMAGES)[:20] + b"\xff" * 40, "damaged or truncated gzip"),
    ],
    ids=["missing", "empty", "header", "short", "long", "magic", "gz cut", "gz bad"],
)
def test_bad_files_say_what_is_expected(tmp_path, content, message):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        mnist.idx_mnist(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_and_labels_must_be_as_many(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3)))
    with pytest.raises(ValueError, match="64 images and 3 labels"):
        mnist.idx_mnist(tmp_path)


def test_a_run_learns_prints_draws_and_is_ablated(tmp_path, capsys, monkeypatch):
    name = "optimizer alone, constant rate"  # compiled for the comparison already
    monkeypatch.setattr(mechanisms, "WITHOUT", {name: mechanisms.WITHOUT[name]})
    write_mnist(tmp_path, zipped=("t10k",), n=256)
    config = mnist.Config(
        data_dir=tmp_path,
        epochs=4,
        batch_size=16,
        learning_rate=3e-3,
        compare=True,
        sigma=1e-4,
        freeze_threshold=0.3,
        ablate=True,
        seeds=1,
        output=tmp_path / "loop.png",
    )
    accuracy = mnist.main(config)
    printed = capsys.readouterr().out
    assert f"test accuracy {accuracy:.4f} (of the averaged" in printed
    assert "constant rate" in printed
    assert "ratio" in printed
    assert accuracy > 0.5
    assert (tmp_path / "loop.png").stat().st_size > 10_000
    assert (tmp_path / "loop_freezing.png").stat().st_size > 5_000
    assert "| everything | " in printed and f"| {name} | " in printed


@pytest.mark.parametrize("batch_size", [0, 65])
def test_batch_size_must_fit(tmp_path, batch_size):
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match=rf"in \[1, 64\].*got {batch_size}"):
        mnist.main(mnist.Config(data_dir=tmp_path, batch_size=batch_size))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 16, "epochs": 1}, "4 steps are too few.*more --epochs or"),
        ({"ablate": True, "control": False}, "--no-control leaves nothing to ablate"),
        ({"ablate": True, "seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"output": Path("nowhere/x.png")}, "--output nowhere/x.png: there is no such"),
    ],
)
def test_what_cannot_end_does_not_begin(tmp_path, changes, message):
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match=message):
        mnist.main(mnist.Config(data_dir=tmp_path, **changes))


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("optimizer", mnist_config.OPTIMIZERS),
        ("momentum_rule", mechanisms.MOMENTUM_RULES),
        ("sigma_rule", mechanisms.SIGMA_RULES),
    ],
)
def test_every_name_is_an_option(option, names):
    assert set(names) == set(mnist.Config.__annotations__[option].__args__)


def test_an_optimizer_without_momentum_says_so(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match="no momentum to move; add --momentum-rule"):
        mnist.main(mnist.Config(data_dir=tmp_path, optimizer="adagrad"))


def test_the_command_line_and_its_errors(tmp_path):
    run = subprocess.run(
        [sys.executable, "examples/mnist.py", "--data-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(f"error: {tmp_path}")
    assert "Traceback" not in run.stderr
