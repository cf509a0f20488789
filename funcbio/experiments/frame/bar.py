"""A progress bar on the terminal; nothing where nobody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how much is done.

    Args:
        name: What is counted.
        total: How many of them.

    Yields:
        A function to be told how many more are done.
    """
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.advance(task, count)
