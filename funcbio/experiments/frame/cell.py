"""Bars below a cell of a notebook: the text of rich's bars, shown anew in one place.

rich itself needs ipywidgets there, which few have; every front end shows text.
"""

import sys
from importlib import import_module
from io import StringIO
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import Progress

SECONDS = 0.5
"""Time from which bars are drawn anew."""

COLUMNS = 100


def in_notebook() -> bool:
    """Returns True if what the program prints appears below a cell: Jupyter's kernel has put its stream there."""
    return type(sys.stderr).__module__ == "ipykernel.iostream"


class CellBars:
    """Shows the bars of a ``Progress`` below the cell that runs."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.place, self.drawn = progress, None, -SECONDS

    def refresh(self, *, now: bool = False) -> None:
        """Draws the bars anew if half a second has passed, or if ``now``."""
        if not now and monotonic() - self.drawn < SECONDS:
            return
        self.drawn, content = monotonic(), {"text/plain": self.text()}
        if self.place is None:
            display: Any = import_module("IPython.display").display
            self.place = display(content, raw=True, display_id=True)
        else:
            self.place.update(content, raw=True)

    def text(self) -> str:
        """Returns the bars as text, a line each."""
        page = Console(file=StringIO(), width=COLUMNS, force_jupyter=False, force_terminal=False)
        with page.capture() as capture:
            page.print(self.progress.get_renderable())
        return capture.get().rstrip("\n")
