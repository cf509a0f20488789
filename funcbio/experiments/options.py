"""Settings of an experiment as one table: a dataclass whose fields carry their limits and help."""

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import Field, field, fields
from typing import Any

from funcbio.experiments.settings import CHECKS, SettingError


def option(default: Any, should: str, explained: str) -> Any:
    """A field of a settings class.

    Args:
        default: Its default.
        should: What a value should be: a key of ``funcbio.experiments.settings.CHECKS``, or names with commas between.
        explained: The help.
    """
    return field(default=default, metadata={"should": should, "help": explained})


def check(settings: Any) -> None:
    """Raises SettingError if a value is out of its limits."""
    for item in fields(settings):
        value, should = getattr(settings, item.name), item.metadata["should"]
        if not (CHECKS[should](value) if should in CHECKS else value in should.split(", ")):
            prefix = "" if should in CHECKS else "one of "
            raise SettingError(f"{item.name} should be {prefix}{should}; found {value!r}")


def add_options(parser: ArgumentParser, cls: Any, read: Callable[[str], Any]) -> None:
    """Adds an option for every field.

    Args:
        parser: The parser.
        cls: The settings class.
        read: Reads a number; what it cannot read is for the settings to refuse by name.
    """
    items: tuple[Field[Any], ...] = fields(cls)
    for item in items:
        kind = str if isinstance(item.default, str) else read
        explained = f"{item.metadata['help']} (default: %(default)s)"
        flag = f"--{item.name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=item.default, metavar=item.name.upper(), help=explained)
