"""The terminal that tables and sentences are printed on."""

import sys

from rich.console import Console


def console(width: int = 150) -> Console:
    """Makes the console; without a terminal it has ``width`` columns, so that no table is cut."""
    return Console(width=None if sys.stdout.isatty() else width)


def say(terminal: Console, text: str) -> None:
    """Prints a line of text as it is, without colours or line breaks."""
    terminal.print(text, highlight=False, soft_wrap=True)
