"""Protocol of the grid: its cells, the folds, and the two ways of training, each as one sweep."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import ShuffleSplit
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, Mechanism, SweepResult
from funcbio.experiments.datasets import Images
from funcbio.experiments.frame.only import folder_name
from funcbio.experiments.grid.settings import GridSettings
from funcbio.experiments.networks import network
from funcbio.experiments.sweep_parts import accuracy

HELD_OUT = 0.1
"""Share of the images in a test part."""

TUNING_LRS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
TUNING_SEEDS = (1000, 1001)
"""Seeds of the search for learning rates; the grid uses smaller ones."""

# The order of the paper's step: backward, fuzzy, rejuvenate, step. So both act before the optimizer.
FUZZY = Mechanism("fuzzy_learning_rates", where="gradient")
REJUVENATE = Mechanism("rejuvenate_weights", where="gradient")
MECHANISMS = {
    "none": [],
    "fuzzy": [FUZZY],
    "rejuvenation": [REJUVENATE],
    "fuzzy + rejuvenation": [FUZZY, REJUVENATE],
}
PROTOCOLS = ("paper", "tuned")
WORTH_COMPILING = 300
"""Number of steps from which compiling pays."""

Cell = tuple[int, str]
"""Sub-synapses of each connection, 0 for none, and a name of ``MECHANISMS``."""

Folds = list[tuple[np.ndarray, np.ndarray]]


def cells(settings: GridSettings) -> list[Cell]:
    """Returns all cells; the plain network comes first."""
    return list(product((0, settings.gamma), MECHANISMS))


def name_of(cell: Cell) -> str:
    """Returns the name of a cell: the mechanisms that act in it."""
    gamma, mechanisms = cell
    parts = ([f"split {gamma}"] if gamma else []) + ([mechanisms] if mechanisms != "none" else [])
    return " + ".join(parts) or "plain"


def config_of(settings: GridSettings) -> BioConfig:
    """Returns the configuration, with the paper's rules."""
    return BioConfig(
        fuzzy_learning_rate_factor_nu=settings.nu,
        rejuvenation_parameter_dre=settings.dre,
        rejuvenation_variant="uniform",
    )


def folds_of(images: Images, settings: GridSettings) -> Folds:
    """Returns the splits of all images, training and test set together, as in the paper."""
    splitter = ShuffleSplit(settings.folds, test_size=HELD_OUT, random_state=0)
    return list(splitter.split(np.arange(len(images.labels))))


def validation_of(folds: Folds) -> Folds:
    """Splits the training part of every fold again, so that learning rates are chosen without its test part."""
    splitter, parts = ShuffleSplit(1, test_size=HELD_OUT, random_state=0), []
    for train, _ in folds:
        learned, measured = next(splitter.split(train))
        parts.append((train[learned], train[measured]))
    return parts


class Grid:
    """Runs the sweeps of one grid; each has a directory below the output, and goes on from what is there.

    Args:
        settings: Its settings.
        images: The images.
        output: Where the directories are.
        some: The cells; all of them if None.
    """

    def __init__(
        self, settings: GridSettings, images: Images, output: Path, some: Sequence[Cell] | None = None
    ) -> None:
        self.settings, self.images, self.output = settings, images, output
        self.cells = cells(settings) if some is None else [*some]
        self.folds = folds_of(images, settings)

    def paper(self) -> SweepResult:
        """Trains all cells as in the paper: plain SGD with one learning rate."""
        lrs = {cell: [self.settings.lr] for cell in self.cells}
        return self._sweep("paper", self.folds, lrs, self.settings.epochs, momentum=0.0)

    def tune(self) -> SweepResult:
        """Trains all cells with momentum at all learning rates, measured on the validation parts."""
        lrs = dict.fromkeys(self.cells, TUNING_LRS)
        folds, seeds = validation_of(self.folds), TUNING_SEEDS
        return self._sweep("tune", folds, lrs, self.settings.epochs_tuned, self.settings.momentum, seeds, last=True)

    def tuned(self, lrs: Mapping[Cell, float]) -> SweepResult:
        """Trains all cells with momentum, each at its own learning rate."""
        single = {cell: [lr] for cell, lr in lrs.items()}
        return self._sweep("tuned", self.folds, single, self.settings.epochs_tuned, self.settings.momentum)

    def _sweep(
        self,
        name: str,
        folds: Folds,
        lrs: Mapping[Cell, Sequence[float]],
        epochs: int,
        momentum: float,
        seeds: Sequence[int] = (),
        *,
        last: bool = False,
    ) -> SweepResult:
        settings, images = self.settings, self.images
        batches = len(folds[0][0]) // settings.batch_size
        names = [[name_of(cell) for cell in each] for each in (self.cells, cells(settings))]
        grid = [
            {"weight_splitting_Gamma": gamma, "mechanisms": mechanisms, "lr": lr}
            for (gamma, mechanisms), rates in lrs.items()
            for lr in rates
        ]
        result: Any = funcbio.sweep(
            partial(network, settings.net, images.shape, images.classes),
            F.cross_entropy,
            (images.images, images.labels),
            steps=epochs * batches,
            batch_size=settings.batch_size,
            optimizer=partial(torch.optim.SGD, momentum=momentum) if momentum else torch.optim.SGD,
            mechanisms=MECHANISMS,
            config=config_of(settings),
            seeds=seeds or settings.seeds,
            grid=grid,
            folds=folds,
            metrics={"accuracy": accuracy},
            record_every=None if last else batches,
            compile=epochs * batches >= WORTH_COMPILING,
            output=self.output / folder_name(name, *names),
            progress=True,
        )
        return result


def chosen(
    tuning: SweepResult, settings: GridSettings, some: Sequence[Cell] | None = None
) -> dict[Cell, dict[float, float]]:
    """Returns the validation accuracy of every cell at every learning rate, over seeds and folds; best ones first.

    Of equal ones, the smallest rate is the best.
    """
    table = tuning.to_pandas()
    columns = ["weight_splitting_Gamma", "mechanisms", "lr"]
    means: Any = table.groupby(columns)["test_accuracy"].mean()
    accuracies = {}
    for cell in cells(settings) if some is None else some:
        by_rate = {lr: float(means[(*cell, lr)]) for lr in TUNING_LRS}
        accuracies[cell] = dict(sorted(by_rate.items(), key=lambda item: (-item[1], item[0])))
    return accuracies
