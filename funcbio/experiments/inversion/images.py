"""The images: those that networks learn from, those that are attacked, and the range that their values have."""

from typing import NamedTuple

import torch
from torch import Tensor, vmap

import funcbio
from funcbio import Key, fold_in, permutation
from funcbio.experiments.data import Digits, digits, validation


class Images(NamedTuple):
    """Holds images of mean 0 and standard deviation 1 in every channel.

    Attributes:
        train_x: Those that networks learn from, shape ``(count, channels, height, width)``.
        train_y: Their classes, int64.
        test_x: Those that are attacked; no network has seen them.
        test_y: Their classes.
        low: Smallest value of every channel, shape ``(channels, 1, 1)``: the attacker's box.
        high: Largest value.
        classes: How many classes there are.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    low: Tensor
    high: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Returns channels, height and width."""
        channels, height, width = self.test_x.shape[1:]
        return channels, height, width

    def unit(self, x: Tensor) -> Tensor:
        """Maps values from the box to [0, 1], in which everything is measured and drawn."""
        return (x - self.low) / (self.high - self.low)


def load(name: str, folder: str) -> Images:
    """Loads images; a fifth of them, the same share of every class, is the part that is attacked."""
    if name == "digits":
        data = digits()
        return normalised(data._replace(train_x=square(data.train_x), test_x=square(data.test_x)))
    from funcbio.experiments.datasets import load as read_files

    files = read_files(name, folder)
    return normalised(validation(Digits(files.images, files.labels, files.images[:0], files.labels[:0])))


def square(rows: Tensor) -> Tensor:
    """Puts rows of 64 numbers into images of one channel."""
    return rows.unflatten(1, (1, 8, 8))


def normalised(parts: Digits) -> Images:
    """Gives every channel mean 0 and standard deviation 1 over the images that networks learn from."""
    over = (0, 2, 3)
    mean, std = parts.train_x.mean(over).view(-1, 1, 1), parts.train_x.std(over).view(-1, 1, 1)
    train, test = (parts.train_x - mean) / std, (parts.test_x - mean) / std
    low, high = (getattr(train, name)(dim=over).view(-1, 1, 1) for name in ("amin", "amax"))
    classes = int(parts.train_y.max()) + 1
    return Images(train, parts.train_y, test, parts.test_y, low, high, classes)


def chosen(images: Images, keys: Tensor, count: int) -> Tensor:
    """Chooses images to attack; returns their places in the test part, shape ``(seeds, count)``.

    A smaller count gives the first of a larger one.
    """
    return vmap(lambda key: permutation(fold_in(key, "images"), len(images.test_y)))(keys)[:, :count]


def others(images: Images, keys: Tensor, places: Tensor) -> Tensor:
    """Chooses, for every image, another one of its class; returns places in the test part, shaped like ``places``."""
    labels, everywhere = images.test_y, torch.arange(len(images.test_y))

    def draw(key: Key, targets: Tensor) -> Tensor:
        score = funcbio.uniform(fold_in(key, "others"), (targets.shape[0], len(labels)))
        fits = (labels[targets][:, None] == labels) & (targets[:, None] != everywhere)
        return torch.where(fits, score, -1.0).argmax(dim=1)

    return vmap(draw)(keys, places)


def class_means(images: Images) -> Tensor:
    """Returns the mean image of every class, the best guess of an attacker who knows only the labels."""
    return torch.stack([images.train_x[images.train_y == label].mean(0) for label in range(images.classes)])
