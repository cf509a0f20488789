"""The table of the comparison, from its results."""

from collections.abc import Mapping
from typing import Any

from funcbio.experiments.frame.intervals import spell
from funcbio.experiments.frame.table import Table

NAMES = {"sgd": "SGD with momentum", "adam": "Adam"}
HEADINGS = ("mechanism", "lr", "test accuracy, %", "minus plain, points", "q")


def table(results: Mapping[str, Any], optimizer: str) -> Table:
    """Makes the table of an optimizer."""
    return Table(HEADINGS, [cells(row) for row in results[optimizer]], {"title": NAMES[optimizer]})


def cells(row: Mapping[str, Any]) -> list[str]:
    """Returns the cells of one mechanism; those of the plain network end with its accuracy."""
    start = [row["mechanism"], f"{row['lr']:g}", spell(row["accuracy"], ".2f", missing="")]
    if "difference" not in row:
        return [*start, "", ""]
    return [*start, spell(row["difference"], ".2f", sign="+", missing=""), f"{row['q']:.3f}"]
