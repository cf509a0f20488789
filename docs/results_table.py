"""The main tables of the results, from the files that the experiments wrote.

``python docs/results_table.py`` prints them; a test compares them with the page.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ASSETS = Path(__file__).parent / "assets"
NONE = "-"

EACH = {
    "fuzzy rates": "fuzzy rates",
    "volume-dependent rates": "volume-dependent rates",
    "crystallization": "crystallization",
    "rejuvenation": "rejuvenation",
    "weight splitting": "weight splitting",
    "Dale's principle": "Dale's principle",
    "synaptic scaling": "synaptic scaling",
}
GRID = {
    "fuzzy rates": "fuzzy",
    "rejuvenation": "rejuvenation",
    "weight splitting": "split 2",
    "all that were run": "split 2 + fuzzy + rejuvenation",
}
PLASTICITY = {
    "fuzzy rates": "fuzzy rates, update",
    "crystallization": "crystallization",
    "rejuvenation": "rejuvenation",
    "rejuvenation and L2 to the start": "rejuvenation, L2 to the start",
    "for comparison: L2 to the start": "L2 to the start",
}
FLATNESS = {
    "fuzzy rates": "fuzzy rates",
    "volume-dependent rates": "volume, 3 lr",
    "crystallization": "crystallization",
    "rejuvenation": "rejuvenation",
    "all that were run": "all, 3 lr",
}
INVERSION = {
    "fuzzy rates": "fuzzy",
    "rejuvenation": "rejuvenated",
    "weight splitting": "split",
    "all that were run": "all",
    "for comparison: four times the learning rate": "plain, lr x 4",
}
"""The name of every row in each of the files."""

ROWS = (
    "fuzzy rates",
    "volume-dependent rates",
    "crystallization",
    "rejuvenation",
    "weight splitting",
    "Dale's principle",
    "synaptic scaling",
    "all that were run",
    "rejuvenation and L2 to the start",
    "for comparison: L2 to the start",
    "for comparison: four times the learning rate",
)


def entry(rows: list[Any], **wanted: Any) -> dict[str, Any]:
    """The only row that has all of these values."""
    (found,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return found


def spell(found: Mapping[str, float], form: str = "+.1f") -> str:
    """A mean with its interval; in bold where the interval leaves no difference out."""
    mean, low, high = (f"{found[name]:{form}}" for name in ("mean", "low", "high"))
    neutral = 0.0 if form.startswith("+") else 1.0
    differs = not found["low"] <= neutral <= found["high"]
    text = f"{mean} [{low}, {high}]"
    return f"**{text}**" if differs else text


class Column(NamedTuple):
    """Says of a column which rows it has, where their numbers stand, and how they are written."""

    names: Mapping[str, str]
    find: Callable[[str], Mapping[str, float]]
    scale: float = 1.0
    form: str = "+.2f"

    def number(self, row: str) -> dict[str, float]:
        """Returns mean, low and high of a row, in the unit of the column."""
        found = self.find(self.names[row])
        return {name: self.scale * found[name] for name in ("mean", "low", "high")}

    def cell(self, row: str) -> str:
        """Writes what stands in a row."""
        return spell(self.number(row), form=self.form) if row in self.names else NONE


Columns = dict[str, Column]


def read(name: str) -> Any:
    """A results file."""
    return json.loads((ASSETS / f"{name}.json").read_text())


def accuracy() -> Columns:
    """What mechanisms do to the accuracy on one task."""
    grid, each = read("grid-fashion"), read("each")

    def alone(optimizer: str) -> Column:
        return Column(EACH, lambda name: entry(each[optimizer], mechanism=name)["difference"])

    def paper(protocol: str) -> Column:
        return Column(GRID, lambda cell: entry(grid[protocol]["cells"], cell=cell)["accuracy"]["difference"])

    return {
        "alone, SGD": alone("sgd"),
        "alone, Adam": alone("adam"),
        "the paper's rules, tuned": paper("tuned"),
        "the paper's rules and rate": paper("paper"),
    }


def beyond() -> Columns:
    """What they do to tasks in a row, to flatness and to what a gradient gives away."""
    plasticity, flatness, inversion = read("plasticity"), read("flatness"), read("inversion")

    def late(benchmark: str) -> Column:
        place = {"benchmark": benchmark, "optimizer": "adam"}
        return Column(
            PLASTICITY, lambda name: entry(plasticity["table"], method=name, **place)["against_plain"], 100.0, "+.1f"
        )

    def curvature(name: str) -> Mapping[str, float]:
        return entry(flatness["table"], variant=name)["largest_ratio_at_equal_loss"]

    def quality(name: str) -> Mapping[str, float]:
        place = {"epochs": 40, "leak": "gradient", "batch": 4, "metric": "psnr"}
        return entry(inversion["differences"], victim=name, **place)

    return {
        "late tasks, permuted": late("permuted"),
        "late tasks, shuffled": late("shuffled"),
        "sharpness, times plain": Column(FLATNESS, curvature, form=".2f"),
        "attacked images, dB": Column(INVERSION, quality, form="+.1f"),
    }


def table(columns: Columns) -> str:
    """A table, in Markdown."""
    lines = ["| mechanism | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in ROWS:
        cells = [column.cell(row) for column in columns.values()]
        if set(cells) != {NONE}:
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(accuracy()), table(beyond()), sep="\n\n")
