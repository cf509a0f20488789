"""Writes the tables of the grid into its page, from the files that it wrote.

``python docs/grid_page.py`` writes them between the marks of the page; a test compares.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marks import folded, marked

from funcbio.experiments.frame.table import NARROW, Table
from funcbio.experiments.grid import tables

DOCS, NAME = Path(__file__).parent, Path(__file__).name
FILES = {
    "fashion": "grid-fashion.json",
    "digits": "grid.json",
    "resnet8": "grid-resnet8.json",
    "alexnetmini": "grid-alexnetmini.json",
    "alexnetmini, longer": "grid-alexnetmini-longer.json",
}
"""Files of results, by the name of their marks."""


def read(name: str) -> dict[str, Any]:
    """Reads a file of results."""
    return json.loads((DOCS / "assets" / FILES[name]).read_text())


def written(table: Table) -> str:
    """Writes a table in which a star is no mark of Markdown."""
    return table.markdown(NARROW, "*")


def all_tables(results: Mapping[str, Any]) -> str:
    """Writes every table of a file, folded."""
    return "\n".join(folded(title, "\n\n".join(map(written, found))) for title, found in tables.parts(results))


def pages() -> dict[Path, str]:
    """Returns the page with its tables."""
    path = DOCS / "results-grid.md"
    text = path.read_text()
    for name in FILES:
        text = marked(text, name, all_tables(read(name)), NAME)
    return {path: text}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
