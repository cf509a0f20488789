"""The table and the figure of the comparison, from its results."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from funcbio.experiments.each.protocol import OPTIMIZERS
from funcbio.plot._canvas import PALETTE, figure_of

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


def figure(results: Mapping[str, Any]) -> Figure:
    """Draws what every mechanism changes against the plain network of the same seeds, for both optimizers."""
    made = figure_of("experiments", figsize=(8, 4))
    axes: Any = made.subplots()
    names = [row["mechanism"] for row in results[OPTIMIZERS[0]] if "difference" in row]
    for offset, color, optimizer in zip((-0.12, 0.12), PALETTE, OPTIMIZERS, strict=False):
        found = [row["difference"] for row in results[optimizer] if "difference" in row]
        means = [one["mean"] for one in found]
        ends = [[abs(one[end] - one["mean"]) for one in found] for end in ("low", "high")]
        places = [index + offset for index in range(len(found))]
        axes.errorbar(means, places, xerr=ends, fmt="o", markersize=4, color=color, label=NAMES[optimizer])
    axes.axvline(0.0, color="0.4", linewidth=0.9)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.2)
    axes.set_xlabel("test accuracy minus that of the plain network, points")
    axes.legend(frameon=False)
    return made


def _spell(found: Mapping[str, float], sign: str) -> str:
    mean, low, high = (f"{found[end]:{sign}.2f}" for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
