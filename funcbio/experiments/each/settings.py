"""Settings of the comparison of single mechanisms."""

from dataclasses import dataclass

from funcbio.experiments.frame.settings import Checked, option

RATES = {"sgd": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "adam": (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}
"""The learning rates that are tried for every mechanism, by optimizer."""

FIRST_TUNING_SEED = 10_000
"""First seed of the search; the results use smaller ones."""


@dataclass(frozen=True)
class Settings(Checked):
    """Holds the settings of one comparison.

    Seeds of the results are 0, 1, 2, ...
    """

    seeds: int = option(30, "an integer from 2 to 1000", "runs of every mechanism")
    tuning_seeds: int = option(5, "an integer from 1 to 10000", "runs of every learning rate in the search")
    steps: int = option(600, "an integer from 1 to 10000", "steps of every run")
    batch_size: int = option(64, "an integer from 1 to 10000", "images in a batch")
    hidden: int = option(128, "an integer from 1 to 10000", "hidden units")
    momentum: float = option(0.9, "a number > 0", "momentum of SGD")
    rejuvenate_every: int = option(100, "an integer from 1 to 10000", "steps between two rejuvenations")
    threads: int = option(0, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    output: str = option("results/each", "a directory", "directory of the results; goes on where it was stopped")
