"""Settings of the measurement of flatness."""

from dataclasses import dataclass
from math import ceil

from funcbio.experiments.frame.settings import Checked, option


@dataclass(frozen=True)
class Settings(Checked):
    """Holds the settings of one measurement.

    Seeds are 0, 1, 2, ... Volume-dependent variants have a multiple of the learning rate.
    """

    seeds: int = option(10, "an integer from 2 to 1000", "runs of every variant")
    epochs: int = option(25, "an integer from 1 to 10000", "epochs of every run")
    points: int = option(9, "an integer from 2 to 1000", "times each run is measured, closer together at the start")
    batch_size: int = option(64, "an integer from 1 to 10000", "images in a batch")
    hidden: int = option(128, "an integer from 1 to 10000", "hidden units")
    lr: float = option(1.0, "a number > 0", "learning rate of the plain network; the default is from compare --tune")
    iterations: int = option(30, "an integer from 1 to 10000", "Lanczos iterations of every eigenvalue")
    probes: int = option(20, "an integer from 1 to 10000", "random vectors of every trace")
    rejuvenate_every: int = option(5, "an integer from 1 to 10000", "epochs between two rejuvenations")
    threads: int = option(0, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    output: str = option("results/flatness", "a directory", "directory of the results; finished variants are kept")

    @property
    def moments(self) -> tuple[int, ...]:
        """Returns the epochs after which runs are measured, from 0 to the last."""
        places = (index / (self.points - 1) for index in range(self.points))
        return tuple(sorted({ceil(self.epochs * place**2) for place in places}))

    def rejuvenates(self, epoch: int) -> bool:
        """Returns True if weak weights are replaced before this epoch, counted from 0; never before the first."""
        return 0 < epoch < self.epochs and epoch % self.rejuvenate_every == 0
