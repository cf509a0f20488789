"""A table that is written to the terminal and to Markdown from the same cells."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table as RichTable

STYLE: Mapping[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
"""Style of tables on the terminal: without edges they fit into 80 columns."""

WIDE, NARROW = " --- ", "---"
"""The two forms of the line below the headings in Markdown."""


@dataclass(frozen=True)
class Table:
    """Holds a table of texts.

    Attributes:
        headings: Names of the columns.
        rows: The cells, one for each column.
        style: Options of rich's ``Table``, such as title and caption, in addition to ``STYLE`` or instead of it.
        right: Headings of the columns that are aligned to the right on the terminal.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    style: Mapping[str, Any] = field(default_factory=dict)
    right: Collection[str] = ()

    def rich(self) -> RichTable:
        """Returns the table as rich prints it."""
        table = RichTable(**{**STYLE, **self.style})
        for heading in self.headings:
            table.add_column(heading, justify="right" if heading in self.right else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    __rich__ = rich

    def markdown(self, rule: str = WIDE, escape: str = "") -> str:
        """Returns the table as Markdown.

        Args:
            rule: The line below each heading, ``WIDE`` or ``NARROW``.
            escape: Characters of the cells that Markdown would read as marks.
        """
        lines = [f"| {' | '.join(row)} |" for row in (self.headings, *self.rows)]
        lines = [re.sub(f"([{re.escape(escape)}])", r"\\\1", line) for line in lines] if escape else lines
        return "\n".join([lines[0], f"|{'|'.join([rule] * len(self.headings))}|", *lines[1:]])
