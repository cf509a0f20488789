"""Settings of the demonstration, and the numbers of its methods."""

from collections.abc import Mapping
from dataclasses import dataclass

from funcbio.experiments.arena.methods import NORM_DECAY, PLAIN
from funcbio.experiments.arena.tasks.labels import TASK_STEPS as TASK_STEPS  # As many as with permuted pixels.
from funcbio.experiments.frame.settings import Checked, Checks, option

KEEP = "keep_plasticity"
OPTIMIZER = "adam"
BLOCK_TASKS = 2
"""Tasks over which each point of a curve is averaged."""

TUNED: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "labels": {
        PLAIN: (-2.75,),
        NORM_DECAY: (-2.5, -0.25),
        "LayerNorm, L2 Init": (-2.5, 0.0),
        "hare and tortoise": (-2.25, -2.25),
        KEEP: (-2.5,),
    },
    "pixels": {
        PLAIN: (-2.625,),
        NORM_DECAY: (-2.5, -0.25),
        "LayerNorm, L2 Init": (-2.5, -0.5),
        "hare and tortoise": (-2.25, -2.5),
        KEEP: (-2.375,),
    },
}
"""Learning rates and numbers that the arena's search has found, as powers of ten."""


@dataclass(frozen=True)
class Settings(Checked):
    """Holds the settings of the demonstration; seeds are 0, 1, 2, ..."""

    task: str = option("labels", ", ".join(TUNED), f"the row of tasks: {', '.join(TUNED)}")
    tasks: int = option(30, "an even number from 10 to 200", "tasks in a row, of 50 steps each")
    seeds: int = option(8, "an integer from 2 to 1000", "runs of every method")
    threads: int = option(1, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    output: str = option("results/demo", "a directory", "directory of the results")

    def checks(self) -> Checks:
        """Returns the checks of all experiments, and that of the tasks."""
        own = {"an even number from 10 to 200": lambda value: value in range(10, 201, 2)}
        return {**super().checks(), **own}
