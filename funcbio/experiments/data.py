"""The handwritten digits that scikit-learn ships, split once for good."""

from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from funcbio.experiments.frame.settings import SettingError

BRIGHTEST = 16.0
"""Largest value of a pixel."""


class Digits(NamedTuple):
    """Holds images as rows of 64 numbers in [0, 1], and their digits.

    Attributes:
        train_x: Training images, shape ``(count, 64)``.
        train_y: Their digits, int64.
        test_x: Images that are only ever used to measure.
        test_y: Their digits.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def __repr__(self) -> str:
        """Returns how many images there are."""
        return f"Digits({len(self.train_y)} images to train on, {len(self.test_y)} to measure)"


def digits() -> Digits:
    """Loads all 1,797 images; a fifth of them, the same share of every digit, is the test part."""
    return _split(*all_digits())


def all_digits() -> tuple[Tensor, Tensor]:
    """Returns all 1,797 images as rows of 64 numbers in [0, 1], and their digits, int64."""
    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images).to(torch.float32) / BRIGHTEST, torch.from_numpy(labels).to(torch.int64)


def validation(data: Digits) -> Digits:
    """Splits the training part again, so that learning rates are chosen without the test part."""
    return _split(data.train_x, data.train_y)


def digits_for(settings: Any) -> Digits:
    """Loads the images; raises SettingError if they do not fill a batch of the settings."""
    data = digits()
    check_batch_size(settings.batch_size, data)
    return data


def check_batch_size(batch_size: int, data: Digits) -> None:
    """Raises SettingError if the training part does not fill one batch."""
    count = len(data.train_x)
    if batch_size > count:
        raise SettingError(f"batch_size should be at most {count}, the number of training images; found {batch_size}")


def _split(x: Tensor, y: Tensor) -> Digits:
    train, test = train_test_split(range(len(y)), test_size=0.2, random_state=0, stratify=y)
    return Digits(x[train], y[train], x[test], y[test])
