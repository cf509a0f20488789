"""The table of the comparison, from its results."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

NAMES = {"sgd": "SGD with momentum", "adam": "Adam"}
HEADINGS = ("mechanism", "lr", "test accuracy, %", "minus plain, points", "q")


def cells(row: Mapping[str, Any]) -> list[str]:
    """What stands in a row of the table."""
    found = [row["mechanism"], f"{row['lr']:g}", _spell(row["accuracy"], "")]
    return [*found, _spell(row["difference"], "+"), f"{row['q']:.3f}"] if "difference" in row else [*found, "", ""]


def table(results: Mapping[str, Any], optimizer: str) -> Table:
    """Makes the table of an optimizer, for the terminal."""
    made = Table(title=NAMES[optimizer], box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in HEADINGS:
        made.add_column(heading)
    for row in results[optimizer]:
        made.add_row(*cells(row))
    return made


def markdown(results: Mapping[str, Any], optimizer: str) -> str:
    """Makes the same table for a page."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(cells(row) for row in results[optimizer])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spell(found: Mapping[str, float], sign: str) -> str:
    mean, low, high = (f"{found[end]:{sign}.2f}" for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
