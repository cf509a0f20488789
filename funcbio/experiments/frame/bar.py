"""Progress on stderr: bars in a terminal and below the cell of a notebook, and a line every half minute elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from funcbio.experiments.frame.cell import CellBars, in_notebook
from funcbio.sweeps._progress import Lines, is_live

Tick = Callable[..., None]
"""Advances a bar by a count, or by one."""

Begin = Callable[[str, int], Tick]
"""Begins a bar with a name and a length."""


@contextmanager
def bars(*columns: ProgressColumn) -> Iterator[Begin]:
    """Shows how much is done.

    Args:
        *columns: Columns in addition to the name, the bar, the share and the time that has passed.

    Yields:
        A function that begins a bar with a name and a length, and returns one that advances it.
    """
    if not is_live():
        yield Lines
        return
    shown = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn()
    with Progress(*shown, *columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        cell = CellBars(progress) if in_notebook() else None

        def begin(name: str, total: int) -> Tick:
            task = progress.add_task(name, total=total)

            def tick(count: int = 1) -> None:
                progress.advance(task, count)
                if cell is not None:
                    cell.refresh()

            tick(0)
            return tick

        yield begin
        if cell is not None:
            cell.refresh(now=True)
