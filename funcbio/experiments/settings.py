"""What can be set in the comparison: defaults, limits and help, in one table that the command line reads."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from funcbio.bio_config import BioConfig, Distribution


class SettingError(ValueError):
    """A setting that cannot be: names the setting, what it should be and what was given."""


def option(default: Any, should: str, explained: str) -> Any:
    """A field of a settings class.

    Args:
        default: Its default.
        should: What a value should be: a key of the checks, or names with commas between.
        explained: The help.
    """
    return field(default=default, metadata={"should": should, "help": explained})


def _integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _not_negative(value: Any) -> bool:
    return value == 0 or _positive(value)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, str) and all(part.strip().isdecimal() for part in value.split(","))


WHOLE_NUMBERS = "whole numbers with commas between"

CHECKS: dict[str, Callable[[Any], bool]] = {
    "an integer from 2 to 1000": _integer(2, 1000),
    "an integer from 1 to 10000": _integer(1, 10000),
    "an integer from 0 to 10000": _integer(0, 10000),
    "an integer from 0 to 1024": _integer(0, 1024),
    "a number > 0": _positive,
    "a number >= 0": _not_negative,
    WHOLE_NUMBERS: _whole_numbers,
    f"one of {', '.join(Distribution)}": lambda value: value in list(Distribution),
    "a directory": lambda value: isinstance(value, str) and value != "" and not Path(value).is_file(),
}


def check(settings: Any, own: Mapping[str, Callable[[Any], bool]] = MappingProxyType({})) -> None:
    """Raises SettingError if a value is out of its limits.

    Args:
        settings: A dataclass whose fields are made by ``option``.
        own: Checks beside those that all experiments share.
    """
    checks = {**CHECKS, **own}
    for item in fields(settings):
        value, should = getattr(settings, item.name), item.metadata["should"]
        if not (checks[should](value) if should in checks else value in should.split(", ")):
            prefix = "" if should in checks else "one of "
            raise SettingError(f"{item.name} should be {prefix}{should}; found {value!r}")


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
        floor: The rate factor at which crystallization ends; without one many weights come to stand still.
        rejuvenate_every: Epochs between two rejuvenations; 0 for none.
        threads: Threads of torch; 0 leaves the choice to torch.
        output: Directory of the results.

    Raises:
        SettingError: If a value is out of its limits.
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

    def __post_init__(self) -> None:
        """Checks every value."""
        check(self)

    @property
    def config(self) -> BioConfig:
        """Configuration of the mechanisms; the rates of the distributions that follow something are updated."""
        return BioConfig(
            fuzzy_lr_distribution=self.distribution, fuzzy_lr_dynamic=True, crystallization_floor=self.floor
        )

    def lr(self, variant: str) -> float:
        """Learning rate of a variant, "plain" or "bio"."""
        return self.lr_bio if variant == "bio" else self.lr_plain

    def rejuvenates(self, epoch: int) -> bool:
        """Whether weak weights are replaced before this epoch (counted from 0)."""
        return epoch > 0 and self.rejuvenate_every > 0 and epoch % self.rejuvenate_every == 0
