"""Settings of the grid: defaults, limits and help, in one table that the command line reads."""

from dataclasses import dataclass, replace
from pathlib import Path

from funcbio.experiments.frame.settings import Checked, Checks, option

DATA = ("digits", "mnist", "fashion-mnist", "mnist-5k", "cifar10", "cifar100")
NETS = ("fcnet", "alexnetmini", "resnet8", "resnet20", "resnet32", "resnet44", "resnet56")

GRID_CHECKS = {
    f"one of {', '.join(DATA)}": lambda value: value in DATA,
    f"one of {', '.join(NETS)}": lambda value: value in NETS,
    "a number in (0, 1)": lambda value: isinstance(value, float) and 0.0 < value < 1.0,
    "a number in [0, 1)": lambda value: isinstance(value, int | float) and 0.0 <= value < 1.0,
    "a folder": lambda value: isinstance(value, str) and not Path(value).is_file(),
}

QUICK = {"seeds": 2, "folds": 2, "epochs": 2, "epochs_tuned": 2}
"""Settings of ``--quick``: a grid so small that it only shows that everything works."""


@dataclass(frozen=True)
class GridSettings(Checked):
    """Holds the settings of one grid, with the defaults of the paper where it has any.

    Seeds are 0, 1, 2, ... Each of the folds, the same for all seeds, has nine tenths of the images to learn from and a
    tenth to measure on. For "data" and "net" see ``funcbio.experiments.datasets`` and ``networks``.
    """

    data: str = option("digits", f"one of {', '.join(DATA)}", f"the images: {', '.join(DATA)}")
    net: str = option("fcnet", f"one of {', '.join(NETS)}", f"the network: {', '.join(NETS)}")
    seeds: int = option(10, "an integer from 2 to 1000", "runs of every cell and fold")
    folds: int = option(5, "an integer from 2 to 1000", "random splits of the images")
    epochs: int = option(200, "an integer from 1 to 10000", "epochs of the paper's protocol, plain SGD")
    lr: float = option(1e-3, "a number > 0", "its learning rate")
    epochs_tuned: int = option(50, "an integer from 1 to 10000", "epochs of the tuned protocol, SGD with momentum")
    momentum: float = option(0.9, "a number in [0, 1)", "its momentum")
    batch_size: int = option(100, "an integer from 1 to 10000", "images in a batch")
    nu: float = option(0.09, "a number > 0", "spread of the rate factors")
    dre: float = option(14.0, "a number > 0", "rejuvenation: larger means fewer weights replaced")
    gamma: int = option(2, "an integer from 2 to 1000", "sub-synapses of each connection where weights are split")
    goal: float = option(0.9, "a number in (0, 1)", "test accuracy up to which epochs are counted")
    threads: int = option(0, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    folder: str = option("data", "a folder", "where the image files are; digits need none")
    output: str = option("results/grid", "a directory", "directory of the results; goes on where it was stopped")

    def checks(self) -> Checks:
        """Returns the checks of all experiments, and those of the grid."""
        return {**super().checks(), **GRID_CHECKS}

    def quick(self) -> "GridSettings":
        """Returns the same at a size that takes seconds."""
        return replace(self, **QUICK)
