"""The tables of the experiment, from its file of results."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.table import Table

from funcbio.experiments.frame.intervals import Interval, adjusted, interval, p_value, paired
from funcbio.experiments.inversion.cells import OTHER, RAW, REFERENCE
from funcbio.experiments.inversion.metrics import METRICS
from funcbio.experiments.inversion.victims import VICTIMS

NETWORKS = (("accuracy", "Test accuracy, %", 100.0, "psnr"), ("loss", "Test loss", 1.0, "ssim"))
"""What is said of the networks: its name, a title, a factor, and the metric that has as many decimals."""

COMPARED = ("psnr", "recovered")
SIGNIFICANT = 0.05

Row = dict[str, Any]
"""One cell with one size of batches, as in the file."""


def differences(rows: Sequence[Row]) -> list[Row]:
    """Compares every cell with the gradient of the plain network at the same time, paired by seed.

    Args:
        rows: The rows of the results.

    Returns:
        For each other row and metric the mean difference, its 95 % interval, and the p-value of Wilcoxon's
        signed-rank test: also after the correction of Benjamini and Hochberg over all rows of the metric.
    """
    plain = {(row["epochs"], row["batch"]): row for row in rows if (row["victim"], row["leak"]) == ("plain", RAW)}
    others = [row for row in rows if row["victim"] != REFERENCE and (row["victim"], row["leak"]) != ("plain", RAW)]
    found = []
    for metric in COMPARED:
        new = [_difference(metric, row, plain[row["epochs"], row["batch"]]) for row in others]
        corrected = adjusted([row["p"] for row in new])
        found += [row | {"p_corrected": p} for row, p in zip(new, corrected, strict=True)]
    return found


def _difference(metric: str, row: Row, plain: Row) -> Row:
    names = {name: row[name] for name in ("victim", "epochs", "leak", "batch")}
    return names | {
        "metric": metric,
        **paired(row[metric], plain[metric])._asdict(),
        "p": p_value(row[metric], plain[metric]),
    }


def tables(found: Row) -> list[Table]:
    """Makes all tables, in the form of Markdown."""
    seeds = len(found["seeds"])
    caption = f"Mean [95 % interval over {seeds} seeds]"
    rows, sizes = found["rows"], sorted({row["batch"] for row in found["rows"]})
    made = [_networks(found["networks"], *what) for what in NETWORKS]
    for metric, title in METRICS.items():
        cells = {(*_name(row), row["batch"]): spell(interval(row[metric]), metric) for row in rows}
        made.append(_table(f"{title}. {caption}", cells, sizes))
    for metric in COMPARED:
        cells = {(*_name(row), row["batch"]): _apart(row) for row in found["differences"] if row["metric"] == metric}
        title = (
            f"{METRICS[metric]}: difference from the plain network's gradient, paired. * p < {SIGNIFICANT}, corrected"
        )
        made.append(_table(title, cells, sizes))
    return [*made, _table("PSNR, dB: split minus plain at four times the rate, paired (p)", _fair(rows), sizes)]


def _fair(rows: Sequence[Row]) -> dict[tuple[str, str, str, int], str]:
    """Compares split networks with plain ones that learn about as fast; p is not corrected."""
    base = {(row["epochs"], row["batch"]): row for row in rows if row["victim"] == "plain, lr x 4"}
    split = [row for row in rows if row["victim"] == "split"]
    apart = [_difference("psnr", row, base[row["epochs"], row["batch"]]) for row in split]
    ends = [Interval(row["mean"], row["low"], row["high"]) for row in apart]
    cells = [f"{spell(found, 'psnr', '+')} ({row['p']:.2g})" for found, row in zip(ends, apart, strict=True)]
    return {(*_name(row), row["batch"]): cell for row, cell in zip(split, cells, strict=True)}


def _name(row: Row) -> tuple[str, str, str]:
    return "any" if row["epochs"] is None else f"{row['epochs']}", row["victim"], row["leak"]


def _table(title: str, cells: dict[tuple[str, str, str, int], str], sizes: Iterable[int]) -> Table:
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for heading in ("epochs", "network", "leak", *(f"{size} image{'s' * (size > 1)}" for size in sizes)):
        table.add_column(heading)
    order = [*VICTIMS, REFERENCE]
    # The sort is stable: leaks stay in their order.
    for name in sorted(
        dict.fromkeys(key[:3] for key in cells), key=lambda name: (_number(name[0]), order.index(name[1]))
    ):
        table.add_row(*name, *(cells.get((*name, size), "") for size in sizes))
    return table


def _number(epochs: str) -> float:
    return float(epochs) if epochs.isdecimal() else math.inf


def _networks(rows: Sequence[Row], name: str, title: str, scale: float, metric: str) -> Table:
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    epochs = sorted({row["epochs"] for row in rows})
    for heading in ("network", *(f"{epoch} epochs" for epoch in epochs)):
        table.add_column(heading)
    cells = {(row["victim"], row["epochs"]): [scale * value for value in row[name]] for row in rows}
    for victim in dict.fromkeys(row["victim"] for row in rows):
        table.add_row(victim, *(spell(interval(cells[victim, epoch]), metric) for epoch in epochs))
    return table


DECIMALS = {"psnr": 1, "recovered": 2, "ssim": 3, "mse": 4}


def spell(found: Interval, metric: str, sign: str = "") -> str:
    """Writes an interval with the decimals of its metric."""
    mean, low, high = (f"{value:{sign}.{DECIMALS[metric]}f}" for value in found)
    return f"{mean} [{low}, {high}]"


def _apart(row: Row) -> str:
    found = Interval(row["mean"], row["low"], row["high"])
    return spell(found, row["metric"], "+") + " *" * (row["p_corrected"] < SIGNIFICANT)


def is_check(row: Row) -> bool:
    """Whether a row is no leak, but shows what somebody finds who has not seen this gradient."""
    return row["leak"] == OTHER or row["victim"] == REFERENCE
