"""What can be set in the comparison: defaults, limits and help, in one table that the command line reads."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from funcbio.bio_config import BioConfig, Distribution


class SettingError(ValueError):
    """A setting that cannot be: names the setting, what it should be and what was given."""


def _option(default: Any, should: str, explained: str) -> Any:
    return field(default=default, metadata={"should": should, "help": explained})


def _integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, str) and all(part.strip().isdecimal() for part in value.split(","))


WHOLE_NUMBERS = "whole numbers with commas between"

CHECKS: dict[str, Callable[[Any], bool]] = {
    "an integer from 2 to 1000": _integer(2, 1000),
    "an integer from 1 to 10000": _integer(1, 10000),
    "an integer from 0 to 10000": _integer(0, 10000),
    "an integer from 0 to 1024": _integer(0, 1024),
    "a number > 0": _positive,
    WHOLE_NUMBERS: _whole_numbers,
    f"one of {', '.join(Distribution)}": lambda value: value in list(Distribution),
    "a directory": lambda value: isinstance(value, str) and value != "" and not Path(value).is_file(),
}


@dataclass(frozen=True)
class Settings:
    """The settings of one comparison; immutable, checked when created.

    The two learning rates are those with the best validation accuracy in ``python -m funcbio compare --tune``,
    which searches a grid of the same size and spacing for both networks and never looks at the test images.

    Attributes:
        seeds: Runs of every network in the functional loop, with seeds 0, 1, 2, ...
        loop_seeds: Runs of every network in the classic loop.
        epochs: Epochs of every run.
        batch_size: Images in a batch.
        hidden: Hidden units.
        lr_plain: Learning rate of the plain network.
        lr_bio: Learning rate of the bio-inspired network.
        distribution: Distribution of the rate factors.
        rejuvenate_every: Epochs between two rejuvenations; 0 for none.
        threads: Threads of torch; 0 leaves the choice to torch.
        output: Directory of the results.

    Raises:
        SettingError: If a value is out of its limits.
    """

    seeds: int = _option(10, "an integer from 2 to 1000", "runs of every network in the functional loop")
    loop_seeds: int = _option(5, "an integer from 2 to 1000", "runs of every network in the classic loop")
    epochs: int = _option(25, "an integer from 1 to 10000", "epochs of every run")
    batch_size: int = _option(64, "an integer from 1 to 10000", "images in a batch")
    hidden: int = _option(128, "an integer from 1 to 10000", "hidden units")
    lr_plain: float = _option(1.0, "a number > 0", "learning rate of the plain network; the default is from --tune")
    lr_bio: float = _option(
        3.0, "a number > 0", "learning rate of the bio-inspired network; the default is from --tune"
    )
    distribution: str = _option(
        "uniform", f"one of {', '.join(Distribution)}", f"distribution of the rate factors: {', '.join(Distribution)}"
    )
    rejuvenate_every: int = _option(
        5, "an integer from 0 to 10000", "epochs between two rejuvenations of weak weights; 0 for none"
    )
    threads: int = _option(0, "an integer from 0 to 1024", "threads of torch; 0 leaves the choice to torch")
    output: str = _option("results/compare", "a directory", "directory of the figure and the results")

    def __post_init__(self) -> None:
        """Checks every value."""
        for item in fields(self):
            value, should = getattr(self, item.name), item.metadata["should"]
            if not CHECKS[should](value):
                raise SettingError(f"{item.name} should be {should}; found {value!r}")

    @property
    def config(self) -> BioConfig:
        """Configuration of the mechanisms; the rates of the distributions that follow something are updated."""
        return BioConfig(fuzzy_lr_distribution=self.distribution, fuzzy_lr_dynamic=True)

    def lr(self, variant: str) -> float:
        """Learning rate of a variant, "plain" or "bio"."""
        return self.lr_bio if variant == "bio" else self.lr_plain

    def rejuvenates(self, epoch: int) -> bool:
        """Whether weak weights are replaced before this epoch (counted from 0)."""
        return epoch > 0 and self.rejuvenate_every > 0 and epoch % self.rejuvenate_every == 0
