"""Fields of settings: defaults, limits and help, in one table that the command line reads."""

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import funcbio
from funcbio.bio_config import Distribution


def ours(error: Exception) -> bool:
    """Returns True if an error is one of our messages to the user: a ValueError raised in this library."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ValueError) and Path(frames[-1].filename).is_relative_to(Path(funcbio.__file__).parent)


class SettingError(ValueError):
    """Reports a setting that is not valid: the setting, what it should be and what was given."""


def option(default: Any, should: str, explained: str) -> Any:
    """Makes a field of a settings class.

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

Checks = Mapping[str, Callable[[Any], bool]]
"""Checks of values, by what they should be."""

CHECKS: Checks = {
    "an integer from 2 to 1000": _integer(2, 1000),
    "an integer from 1 to 100": _integer(1, 100),
    "an integer from 1 to 10000": _integer(1, 10000),
    "an integer from 1 to 1000000": _integer(1, 1_000_000),
    "an integer from 5 to 1000": _integer(5, 1000),
    "an integer from 0 to 10000": _integer(0, 10000),
    "an integer from 0 to 1024": _integer(0, 1024),
    "a number > 0": _positive,
    "a number >= 0": _not_negative,
    WHOLE_NUMBERS: _whole_numbers,
    f"one of {', '.join(Distribution)}": lambda value: value in list(Distribution),
    "a directory": lambda value: isinstance(value, str) and value != "" and not Path(value).is_file(),
}


@dataclass(frozen=True)
class Checked:
    """Holds settings whose fields are made by ``option``: immutable, and checked when they are created.

    Raises:
        SettingError: If a value is out of its limits.
    """

    selects: ClassVar[tuple[str, ...]] = ()
    """Settings that choose parts of the work, and change no number."""

    def __post_init__(self) -> None:
        """Checks every value."""
        checks = self.checks()
        for item in fields(self):
            value, should = getattr(self, item.name), item.metadata["should"]
            if not (checks[should](value) if should in checks else value in should.split(", ")):
                prefix = "" if should in checks else "one of "
                raise SettingError(f"{item.name} should be {prefix}{should}; found {value!r}")

    def checks(self) -> Checks:
        """Returns the checks, by what a value should be."""
        return CHECKS
