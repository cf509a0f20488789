"""The search for the two learning rates, on a validation part of the training images."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from funcbio.experiments.compare import functional
from funcbio.experiments.compare.history import VARIANTS
from funcbio.experiments.compare.settings import Settings
from funcbio.experiments.data import Digits, validation
from funcbio.experiments.frame.intervals import Interval, interval

GRIDS = {"plain": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0), "bio": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)}
"""Learning rates of the search: ten times higher for bio, whose gradients are about ten times smaller."""

SEEDS = range(1000, 1010)
"""Seeds of the search; the comparison uses smaller ones."""


class Tried(NamedTuple):
    """Holds one row of the search: validation accuracy after the last epoch, over the seeds.

    ``chosen`` is True for the highest mean of a variant; of equal ones, for the smallest learning rate.
    """

    variant: str
    lr: float
    accuracy: Interval
    chosen: bool


def search(settings: Settings, digits: Digits, tick: Callable[[], None]) -> list[Tried]:
    """Trains both variants at every learning rate of their grids; all runs of a variant at once.

    Learning rates of the settings and test images are not used. ``tick`` is called after every epoch of a variant.
    """
    part, rows = validation(digits), []
    for variant in VARIANTS:
        grid, count = GRIDS[variant], len(SEEDS)
        lrs = torch.tensor(grid).repeat_interleave(count)
        history, _ = functional.train(settings, part, variant, list(SEEDS) * len(grid), lrs, tick)
        scores = [interval(row.tolist()) for row in history.final.double().reshape(len(grid), count)]
        best = max(range(len(grid)), key=lambda index: scores[index].mean)
        rows += [
            Tried(variant, lr, score, index == best) for index, (lr, score) in enumerate(zip(grid, scores, strict=True))
        ]
    return rows
