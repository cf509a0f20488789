"""Settings of an experiment as options of a command line."""

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any


def add_options(parser: ArgumentParser, cls: Any, read: Callable[[str], Any]) -> None:
    """Adds an option for every field of a settings class; ``read`` reads numbers and leaves other text."""
    items: tuple[Field[Any], ...] = fields(cls)
    for item in items:
        kind = str if isinstance(item.default, str) else read
        explained = f"{item.metadata['help']} (default: %(default)s)"
        flag = f"--{item.name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=item.default, metavar=item.name.upper(), help=explained)
