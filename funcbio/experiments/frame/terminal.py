"""The terminal that tables and sentences are printed on."""

import sys

from rich.console import Console


def console() -> Console:
    """Makes the console; without a terminal there is no width to keep to, and a table cut to fit one helps nobody."""
    return Console(width=None if sys.stdout.isatty() else 150)
