"""The table of the comparison, from its results."""

from collections.abc import Mapping
from typing import Any

from funcbio.experiments.frame.intervals import over, spell, spell_p
from funcbio.experiments.frame.table import Table

NAMES = {"sgd": "SGD with momentum", "adam": "Adam"}
HEADINGS = ("mechanism", "lr", "test accuracy, %", "minus plain, points", "q")


def table(results: Mapping[str, Any], optimizer: str) -> Table:
    """Makes the table of an optimizer."""
    rows = results[optimizer]
    caption = f"Mean {over(len(rows[0]['seeds']))}; q: Wilcoxon's, adjusted."
    return Table(HEADINGS, list(map(cells, rows)), {"title": NAMES[optimizer], "caption": caption}, tied=(4,))


def cells(row: Mapping[str, Any]) -> list[str]:
    """Returns the cells of one mechanism; those of the plain network end with its accuracy."""
    start = [row["mechanism"], f"{row['lr']:g}", spell(row["accuracy"], ".2f", missing="")]
    if "difference" not in row:
        return [*start, "", ""]
    return [*start, spell(row["difference"], ".2f", sign="+", missing=""), spell_p(row["q"])]
