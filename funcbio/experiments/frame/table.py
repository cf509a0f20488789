"""A table that is written to the terminal and to Markdown from the same cells."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

STYLE: Mapping[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
"""Style of tables on the terminal: without edges they fit into 80 columns."""

WIDE, NARROW = " --- ", "---"
"""The two forms of the line below the headings in Markdown."""


@dataclass(frozen=True)
class Table:
    """Holds a table of texts.

    On the terminal no cell is broken, and a heading only where it does not fit: columns that do not fit beside the
    others come below them, in a table of their own that begins with the same first columns.

    Attributes:
        headings: Names of the columns.
        rows: The cells, one for each column.
        style: Options of rich's ``Table``, such as title and caption, in addition to ``STYLE`` or instead of it.
        right: Headings of the columns that are aligned to the right on the terminal.
        keys: How many first columns say what a row is.
        tied: Numbers of the columns that stay beside the one before.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    style: Mapping[str, Any] = field(default_factory=dict)
    right: Collection[str] = ()
    keys: int = 1
    tied: Collection[int] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yields title, tables and caption for rich."""
        if "title" in self.style:
            yield Text(self.style["title"], style="bold")
        for number, columns in enumerate(self._blocks(console, options)):
            if number:
                yield ""
            forms = (self._rich(columns, whole=whole) for whole in (True, False))
            fitting = (table for table in forms if _width(table, console, options) <= options.max_width)
            yield next(fitting, Text("\n".join(self._records(columns))))
        if self.style.get("caption"):
            yield Text(self.style["caption"], style="dim")

    def _blocks(self, console: Console, options: ConsoleOptions) -> list[list[int]]:
        """Returns the numbers of the columns of each table, as many as fit into the width."""
        first = list(range(self.keys))
        groups: list[list[int]] = []
        for column in range(self.keys, len(self.headings)):
            if column in self.tied and groups:
                groups[-1].append(column)
            else:
                groups.append([column])
        blocks = [list(first)]
        for group in groups:
            wide = _width(self._rich([*blocks[-1], *group]), console, options) > options.max_width
            if wide and blocks[-1] != first:
                blocks.append([*first])
            blocks[-1] += group
        return blocks

    def _rich(self, columns: Sequence[int], *, whole: bool = False) -> RichTable:
        """Returns some of the columns as rich prints them; headings may be broken between words unless ``whole``."""
        style = {name: value for name, value in {**STYLE, **self.style}.items() if name not in ("title", "caption")}
        table = RichTable(**style)
        for column in columns:
            lines = [line for row in self.rows for line in row[column].split("\n")]
            heading = [self.headings[column]] if whole else self.headings[column].split()
            width = max([0, *map(cell_len, [*lines, *heading])])
            justify = "right" if self.headings[column] in self.right else "left"
            table.add_column(Text(self.headings[column]), justify=justify, width=width)
        for row in self.rows:
            table.add_row(*(Text(row[column]) for column in columns))
        return table

    def _records(self, columns: Sequence[int]) -> Iterator[str]:
        """Yields the cells of some columns as lines, for a terminal in which they do not fit side by side."""
        for row in self.rows:
            for column in columns:
                yield f"{'' if column < self.keys else '  '}{self.headings[column]}: {row[column]}"

    def markdown(self, rule: str = WIDE, escape: str = "") -> str:
        """Returns the table as Markdown.

        Args:
            rule: The line below each heading, ``WIDE`` or ``NARROW``.
            escape: Characters of the cells that Markdown would read as marks.
        """
        lines = [f"| {' | '.join(row)} |" for row in (self.headings, *self.rows)]
        lines = [re.sub(f"([{re.escape(escape)}])", r"\\\1", line) for line in lines] if escape else lines
        return "\n".join([lines[0], f"|{'|'.join([rule] * len(self.headings))}|", *lines[1:]])


def _width(table: RichTable, console: Console, options: ConsoleOptions) -> int:
    """Returns the columns that a table takes where there is room."""
    return table.__rich_measure__(console, options.update(max_width=10_000)).maximum
