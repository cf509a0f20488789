"""Settings of the experiment on gradient inversion."""

from dataclasses import dataclass

from funcbio.experiments.frame.settings import WHOLE_NUMBERS, Checked, SettingError, option


@dataclass(frozen=True)
class Settings(Checked):
    """Holds the settings of one experiment.

    Seeds are 0, 1, 2, ...
    """

    data: str = option("digits", "digits, mnist, cifar10, cifar100", "images: digits, mnist, cifar10 or cifar100")
    folder: str = option("data", "a directory", "directory of the image files; digits need none")
    net: str = option("mlp", "mlp, conv", "network: mlp or conv")
    seeds: int = option(16, "an integer from 2 to 1000", "networks of every kind, each with images of its own")
    batches: str = option("1,2,4,8", WHOLE_NUMBERS, "how many images are behind one gradient")
    epochs: str = option("0,5,40", WHOLE_NUMBERS, "epochs of training after which the network is attacked")
    train_lr: float = option(0.1, "a number > 0", "learning rate of the network")
    train_batch: int = option(64, "an integer from 1 to 10000", "images in a batch of its training")
    nu: float = option(0.09, "a number > 0", "spread of the rate factors, as in the paper")
    iterations: int = option(1000, "an integer from 1 to 10000", "steps of the attack; Geiping et al. take up to 7000")
    restarts: int = option(1, "an integer from 1 to 10000", "attacks on every gradient; the best fit counts")
    lr: float = option(0.1, "a number > 0", "learning rate of the attack, divided by ten three times")
    tv: float = option(1e-6, "a number > 0", "weight of the total variation")
    threads: int = option(0, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    output: str = option("results/inversion", "a directory", "directory of the figures and the results")

    def __post_init__(self) -> None:
        """Checks every value."""
        super().__post_init__()
        if min(self.batch_sizes) < 1:
            raise SettingError(f"batches should be at least 1; found {self.batches!r}")

    @property
    def batch_sizes(self) -> list[int]:
        """Returns the sizes of batches, as numbers."""
        return numbers(self.batches)

    @property
    def checkpoints(self) -> list[int]:
        """Returns the epochs of the checkpoints, as numbers."""
        return numbers(self.epochs)


def numbers(text: str) -> list[int]:
    """Reads whole numbers with commas between; each counts once, in order of size."""
    return sorted({int(part) for part in text.split(",")})
