"""The images that tasks are made of."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from funcbio import Key, fold_in, uniform

MOST_IMAGES = 10_000
"""Most images of a data set that are used, as in Kumar et al."""

BATCH = 16


class Pool(NamedTuple):
    """Holds images, and numbers of those of each class.

    Attributes:
        x: The images as rows of pixels, normalised, shape ``(n, pixels)``.
        y: Their classes, int64.
        members: For each class the numbers of its images, shape ``(classes, most of a class)``, filled up with zeros.
        counts: How many images each class has.
    """

    x: Tensor
    y: Tensor
    members: Tensor
    counts: Tensor

    @property
    def side(self) -> int:
        """Returns the height and width of an image."""
        return round(self.x.shape[1] ** 0.5)


def pool(name: str, folder: str | Path) -> Pool:
    """Loads the training images of a data set; of large ones the first 10,000.

    Raises:
        SettingError: If the files are not there or damaged.
    """
    from funcbio.experiments.datasets import load  # It needs numpy, which the help of the command line does without.

    data = load(name, folder)
    count = min(data.train, MOST_IMAGES)
    x, y = data.images[:count].flatten(1), data.labels[:count]
    numbers = [torch.nonzero(y == label).flatten() for label in range(data.classes)]
    members = torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True)
    return Pool(x, y, members, torch.tensor([len(part) for part in numbers]))


def below(key: Key, count: int | Tensor, size: int) -> Tensor:
    """Draws whole numbers from 0 to ``count - 1``, each with the same chance."""
    return (uniform(key, (size,)) * count).to(torch.int64)


def batch_key(key: Key, step: Tensor) -> Key:
    """Returns the key of a member's draws for one batch."""
    return fold_in(fold_in(key, "batch"), step)


def task_key(key: Key, task: Tensor) -> Key:
    """Returns the key of a member's draws for one task."""
    return fold_in(fold_in(key, "task"), task)
