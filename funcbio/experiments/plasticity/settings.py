"""Settings of the experiment on plasticity."""

from dataclasses import dataclass

from torch import Tensor

from funcbio.experiments.frame.settings import Checked, SettingError, option
from funcbio.experiments.plasticity.tasks import BATCH, Tasks


@dataclass(frozen=True)
class Settings(Checked):
    """Holds the settings of one experiment.

    Seeds of the results are 0, 1, 2, ..., those of the search 1000, 1001, ... The last block of tasks is the one that
    counts.
    """

    tasks: int = option(200, "an integer from 2 to 1000", "tasks in a row")
    seeds: int = option(10, "an integer from 2 to 1000", "runs of every method")
    images: int = option(80, "an integer from 1 to 10000", "images of the tasks with shuffled labels")
    epochs: int = option(10, "an integer from 1 to 10000", "epochs in each of the tasks with shuffled labels")
    permuted_images: int = option(800, "an integer from 1 to 10000", "images of the tasks with permuted pixels")
    blocks: int = option(20, "an integer from 2 to 1000", "blocks of tasks over which results are averaged")
    tuning_tasks: int = option(200, "an integer from 1 to 10000", "tasks in a row in the search")
    rounds: int = option(4, "an integer from 1 to 10000", "rounds of candidates in the search")
    tuning_seeds: int = option(2, "an integer from 1 to 10000", "runs of every candidate in the search")
    deciding_seeds: int = option(6, "an integer from 1 to 10000", "runs of the best candidates, which decide")
    compile: str = option("yes", "yes, no", "whether steps are compiled")
    threads: int = option(1, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    output: str = option("results/plasticity", "a directory", "directory of the results; finished runs are kept")

    def __post_init__(self) -> None:
        """Checks every value."""
        super().__post_init__()
        for name in ("images", "permuted_images"):
            if getattr(self, name) < BATCH:
                raise SettingError(f"{name} should be at least {BATCH}, one batch; found {getattr(self, name)}")
        if self.tasks % self.blocks:
            raise SettingError(f"blocks should divide the {self.tasks} tasks; found {self.blocks}")

    def row(self, benchmark: str, x: Tensor, y: Tensor) -> Tasks:
        """Returns the tasks of a benchmark, from images and digits."""
        images, epochs = (self.permuted_images, 1) if benchmark == "permuted" else (self.images, self.epochs)
        if images > len(y):
            raise SettingError(f"images of the {benchmark} tasks should be at most {len(y)}; found {images}")
        return Tasks(benchmark, x, y, images, epochs)
