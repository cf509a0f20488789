"""Descriptions of published data sets: their formats, with folders and names of their files, and their checksums."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

LARGEST = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
    "mnist_5k.csv": 5_000 * 785 * len("255,"),
}
"""Bytes that a file may have, not compressed: those of the published one, or numbers of three digits throughout."""

LARGEST_OTHER = 1 << 28
"""Bytes that any other file may have; the largest published one has 155 million."""

LARGEST_ARCHIVE = 1 << 28
"""Bytes that an archive may have, packed and unpacked; the largest published one has 186 million."""

Parts = tuple[tuple[str, ...], ...]
"""Names of the files of every part of a set of images."""


def nowhere() -> tuple[Path, ...]:
    """Returns no folder: that of a data set that no package holds."""
    return ()


@dataclass(frozen=True)
class Layout:
    """Describes one format of a data set.

    Attributes:
        folders: Where its files may lie below the user's folder.
        train: The files of every part of the training set.
        test: The files of every part of the test set.
        read: Turns names and contents of a part into images ``(n, c, h, w)`` and labels, both uint8.
        archive: Name of the archive that holds them; "" if there is none.
        elsewhere: Returns the folders of packages that hold its files; they are looked for after the user's folder.
        split: Turns the labels into an order of the images, those for training first, and the number of these; None if
            the files tell them apart.
    """

    folders: tuple[str, ...]
    train: Parts
    test: Parts
    read: Callable[[tuple[str, ...], list[bytes]], tuple[np.ndarray, np.ndarray]]
    archive: str = ""
    elsewhere: Callable[[], tuple[Path, ...]] = nowhere
    split: Callable[[np.ndarray], tuple[np.ndarray, int]] | None = None

    @property
    def names(self) -> list[str]:
        """Returns the names of all files."""
        return [name for part in (*self.train, *self.test) for name in part]


@dataclass(frozen=True)
class Published:
    """Describes a data set.

    Attributes:
        title: Its name in sentences.
        train: Number of images for training.
        test: Number of the others.
        shape: Channels, height and width.
        classes: Number of classes.
        licence: Its licence; "not stated" if its page names none.
        page: Where it is published.
        command: A command that gets it; ``{folder}`` stands for the user's folder.
        layouts: Its formats, in the order in which they are looked for.
        sums: MD5 sums of its files without gzip, and of whole archives, by name.
    """

    title: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    licence: str
    page: str
    command: str
    layouts: tuple[Layout, ...]
    sums: Mapping[str, str] = field(default_factory=dict)
