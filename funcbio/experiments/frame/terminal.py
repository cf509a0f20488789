"""The terminal that tables and sentences are printed on."""

import sys

from rich.console import Console

LOG_COLUMNS = 100
"""Columns where there is no terminal."""


def console() -> Console:
    """Makes the console."""
    return Console(width=None if sys.stdout.isatty() else LOG_COLUMNS)


def say(terminal: Console, text: str) -> None:
    """Prints a line of text as it is, without colours or line breaks."""
    terminal.print(text, highlight=False, soft_wrap=True)
