"""Settings of the comparison."""

from dataclasses import dataclass

from funcbio.bio_config import BioConfig, Distribution
from funcbio.experiments.frame.settings import Checked, option


@dataclass(frozen=True)
class Settings(Checked):
    """Holds the settings of one comparison.

    The two learning rates are those with the best validation accuracy in ``python -m funcbio compare --tune``,
    which searches a grid of the same size and spacing for both networks and never looks at the test images.

    Seeds are 0, 1, 2, ... Without a floor of crystallization many weights stop changing.
    """

    seeds: int = option(10, "an integer from 2 to 1000", "runs of every network in the functional loop")
    loop_seeds: int = option(5, "an integer from 2 to 1000", "runs of every network in the classic loop")
    epochs: int = option(25, "an integer from 1 to 10000", "epochs of every run")
    batch_size: int = option(64, "an integer from 1 to 10000", "images in a batch")
    hidden: int = option(128, "an integer from 1 to 10000", "hidden units")
    lr_plain: float = option(1.0, "a number > 0", "learning rate of the plain network; the default is from --tune")
    lr_bio: float = option(3.0, "a number > 0", "learning rate of the bio-inspired network; the default is from --tune")
    distribution: str = option(
        "uniform", f"one of {', '.join(Distribution)}", f"distribution of the rate factors: {', '.join(Distribution)}"
    )
    floor: float = option(0.1, "a number >= 0", "the rate factor at which crystallization ends")
    rejuvenate_every: int = option(
        5, "an integer from 0 to 10000", "epochs between two rejuvenations of weak weights; 0 for none"
    )
    threads: int = option(0, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    output: str = option("results/compare", "a directory", "directory of the figure and the results")

    @property
    def config(self) -> BioConfig:
        """Returns the configuration of the mechanisms, with updates for the dynamic distributions of the rates."""
        return BioConfig(
            fuzzy_lr_distribution=self.distribution, fuzzy_lr_dynamic=True, crystallization_floor=self.floor
        )

    def lr(self, variant: str) -> float:
        """Returns the learning rate of a variant, "plain" or "bio"."""
        return self.lr_bio if variant == "bio" else self.lr_plain

    def rejuvenates(self, epoch: int) -> bool:
        """Returns True if weak weights are replaced before this epoch (counted from 0)."""
        return epoch > 0 and self.rejuvenate_every > 0 and epoch % self.rejuvenate_every == 0
