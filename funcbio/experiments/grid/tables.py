"""The tables of the grid, from its results."""

from collections.abc import Iterator, Mapping
from typing import Any

from funcbio.experiments.frame import intervals
from funcbio.experiments.frame.table import Table
from funcbio.experiments.grid.measures import MEASURES

DIGITS = {"accuracy": 2, "loss": 4, "epochs": 1, "gap": 4, "area": 2}
TITLES = {
    "paper": "The paper's protocol: SGD, learning rate {lr:g}, {epochs}",
    "tuned": "Tuned: SGD, momentum {momentum:g}, the best learning rate of every cell, {epochs_tuned}",
}
STARS = f"; *: q < {intervals.SIGNIFICANT} over seeds; **: p < {intervals.SIGNIFICANT} over folds, too."
HEADINGS = {**MEASURES, "epochs": "epochs to {goal:.0%}", "gap": "loss gap", "area": "area, %"}


def title_of(protocol: str, settings: Mapping[str, Any]) -> str:
    """Returns how the runs of a protocol were trained."""
    epochs = {name: intervals.counted(settings[name], "epoch") for name in ("epochs", "epochs_tuned")}
    return TITLES[protocol].format(**{**settings, **epochs})


def headings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns short names of the measures."""
    return {name: text.format(**settings) for name, text in HEADINGS.items()}


def table(results: Mapping[str, Any], protocol: str) -> Table:
    """Makes the table of means and intervals of every measure."""
    rows = []
    for row in results[protocol]["cells"]:
        cells = [spell(row[name], DIGITS[name]) for name in MEASURES]
        missed = row["runs"] - row["reached"]
        cells[list(MEASURES).index("epochs")] += f" ({missed} of {row['runs']} never)" if missed else ""
        rows.append([row["cell"], *cells])
    return _table("cell", rows, results["settings"], protocol, ".")


def difference_table(results: Mapping[str, Any], protocol: str) -> Table:
    """Makes the table of differences from the plain cell, paired; a star where q < 0.05."""
    rows = []
    for row in results[protocol]["cells"][1:]:
        changes = {name: row[name]["difference"] for name in MEASURES}
        cells = [spell(change, DIGITS[name], "+") + stars(change) for name, change in changes.items()]
        rows.append([row["cell"], *cells])
    return _table("cell minus plain", rows, results["settings"], protocol, STARS)


def _table(first: str, rows: list[list[str]], settings: Mapping[str, Any], protocol: str, end: str) -> Table:
    caption = f"Mean {intervals.over(settings['seeds'])}{end}"
    names = [first, *headings(settings).values()]
    return Table(names, rows, {"title": title_of(protocol, settings), "caption": caption})


def stars(change: Mapping[str, Any]) -> str:
    """Returns one star if the difference holds over seeds, adjusted for all cells; two if also over folds."""
    sure = [intervals.is_significant(change[name]) for name in ("q", "p_folds")]
    return " **" if all(sure) else " *" if sure[0] else ""


def spell(ends: Mapping[str, Any], digits: int, sign: str = "") -> str:
    """Writes mean and interval."""
    return intervals.spell(ends, f".{digits}f", sign=sign, missing="diverged")


def rates_table(results: Mapping[str, Any]) -> Table:
    """Makes the table of validation accuracies at every learning rate, the chosen one in brackets."""
    rates, rows = [f"{lr:g}" for lr in sorted(map(float, results["tuning"][0]["accuracy"]))], []
    for row in results["tuning"]:
        percent = {f"{float(lr):g}": f"{100.0 * value:.2f}" for lr, value in row["accuracy"].items()}
        best = f"{row['chosen']:g}"
        rows.append([row["cell"], *(f"[{percent[lr]}]" if lr == best else percent[lr] for lr in rates)])
    return Table(["cell", *rates], rows)


def markdown(table: Table) -> str:
    """Writes a table for a page, on which a star is no mark of Markdown."""
    return table.markdown(escape="*")


def parts(results: Mapping[str, Any]) -> Iterator[tuple[str, list[Table]]]:
    """Yields the titles of all results that there are, each with its tables."""
    for protocol in [name for name in TITLES if name in results]:
        title = title_of(protocol, results["settings"])
        yield title, [table(results, protocol), difference_table(results, protocol)]
    if results["tuning"]:
        yield "Validation accuracy in the search for learning rates, %", [rates_table(results)]


def page(results: Mapping[str, Any]) -> str:
    """Writes all tables for a page."""
    lines = [text for title, found in parts(results) for text in (f"**{title}**", *map(markdown, found))]
    return "\n\n".join(lines) + "\n"
