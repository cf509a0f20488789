"""Layouts of the published data sets: folders and names of their files, functions that read them, and checksums."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from funcbio.experiments.datasets import cifar, idx

TRAINING_BATCHES = tuple((f"data_batch_{number}",) for number in range(1, 6))

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
"""MD5 sums of files without gzip, and of whole archives; the single files of the binary version have none."""

LARGEST = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}
"""Bytes of the published files, not compressed; larger files are refused."""

LARGEST_OTHER = 1 << 28
"""Bytes that any other file may have; the largest published one has 155 million."""

LARGEST_ARCHIVE = 1 << 28
"""Bytes that an archive may have, packed and unpacked; the largest published one has 186 million."""


@dataclass(frozen=True)
class Layout:
    """Describes one format of a data set.

    Attributes:
        folders: Where its files may lie below the user's folder.
        train: The files of every part of the training set.
        test: The files of every part of the test set.
        read: Turns names and contents of a part into images ``(n, c, h, w)`` and labels, both uint8.
        archive: Name of the archive that holds them; "" if there is none.
    """

    folders: tuple[str, ...]
    train: tuple[tuple[str, ...], ...]
    test: tuple[tuple[str, ...], ...]
    read: Callable[[tuple[str, ...], list[bytes]], tuple[np.ndarray, np.ndarray]]
    archive: str = ""


@dataclass(frozen=True)
class Published:
    """Describes a data set.

    Attributes:
        classes: Number of classes.
        page: Where to get it.
        layouts: Its formats, in the order in which they are looked for.
    """

    classes: int
    page: str
    layouts: tuple[Layout, ...]


def _binary(folder: str, train: tuple[tuple[str, ...], ...], test: str, head: int, archive: str) -> Layout:
    ends = tuple((f"{name}.bin",) for (name,) in train)
    return Layout((folder, "."), ends, ((f"{test}.bin",),), partial(cifar.read_binary, head=head), archive)


def _pickled(folder: str, train: tuple[tuple[str, ...], ...], test: str, key: bytes, archive: str) -> Layout:
    return Layout((folder, "."), train, ((test,),), partial(cifar.read_pickle, key=key), archive)


CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
PUBLISHED = {
    "mnist": Published(
        10,
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (
            Layout(
                ("mnist", "MNIST/raw", "."),
                (("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),),
                (("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),),
                idx.read_pair,
            ),
        ),
    ),
    "cifar10": Published(
        10,
        CIFAR_PAGE,
        (
            _binary("cifar-10-batches-bin", TRAINING_BATCHES, "test_batch", 1, "cifar-10-binary.tar.gz"),
            _pickled("cifar-10-batches-py", TRAINING_BATCHES, "test_batch", b"labels", "cifar-10-python.tar.gz"),
        ),
    ),
    "cifar100": Published(
        100,
        CIFAR_PAGE,
        (
            _binary("cifar-100-binary", (("train",),), "test", 2, "cifar-100-binary.tar.gz"),
            _pickled("cifar-100-python", (("train",),), "test", b"fine_labels", "cifar-100-python.tar.gz"),
        ),
    ),
}
