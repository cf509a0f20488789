"""Small files in the format in which MNIST and Fashion-MNIST are published, and what is read from them."""

import gzip
import hashlib
import struct
from dataclasses import replace

import numpy as np
import torch

from funcbio.experiments.datasets.published import PUBLISHED

NUMBERS = np.random.default_rng(0)


def images(count, *shape):
    return NUMBERS.integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count, classes=10):
    return NUMBERS.integers(0, classes, count, dtype=np.uint8)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def require_same(found, pixels, numbers):
    """The images, brought back to bytes, are those that were written."""
    back = found.images * found.std[:, None, None] + found.mean[:, None, None]
    assert np.array_equal((255 * back).round().numpy().astype(np.uint8), pixels)
    assert torch.equal(found.labels, torch.from_numpy(numbers.astype(np.int64)))
    assert (found.images.dtype, found.labels.dtype) == (torch.float32, torch.int64)
    train = found.images[: found.train]
    torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(train.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(train.std((0, 2, 3), correction=0), torch.ones(train.shape[1]), atol=1e-4, rtol=0)


MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def mnist_files(count=7):
    return [images(count, 28, 28), labels(count), images(3, 28, 28), labels(3)]


def write_idx(folder, arrays, packed=False):
    """Writes the four files into a folder; returns their MD5 sums by name."""
    folder.mkdir(exist_ok=True, parents=True)
    contents = {name: idx(array) for name, array in zip(MNIST, arrays, strict=True)}
    for name, content in contents.items():
        (folder / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}


def publish(monkeypatch, name, sums):
    """Takes files with these sums for the published ones."""
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], sums=sums))
