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
    """Holds one row of the search.

    Attributes:
        variant: "plain" or "bio".
        lr: Learning rate.
        accuracy: Validation accuracy after the last epoch, over the seeds.
        chosen: Whether it has the variant's highest mean; of equal ones, the smallest.
    """

    variant: str
    lr: float
    accuracy: Interval
    chosen: bool


def search(settings: Settings, digits: Digits, tick: Callable[[], None]) -> list[Tried]:
    """Trains both variants at every learning rate of their grids; all runs of a variant at once.

    Args:
        settings: The settings; their learning rates are not used.
        digits: The images, of which the test part is not used.
        tick: Called after every epoch of a variant.

    Returns:
        One row for every variant and learning rate.
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
