"""The tables of the experiment, from its file of results."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box

from funcbio.experiments.frame import intervals
from funcbio.experiments.frame.intervals import (
    SIGNIFICANT,
    Interval,
    adjusted,
    interval,
    is_significant,
    over,
    p_value,
    paired,
)
from funcbio.experiments.frame.table import Table
from funcbio.experiments.inversion.cells import RAW, REFERENCE
from funcbio.experiments.inversion.metrics import METRICS
from funcbio.experiments.inversion.victims import VICTIMS

NETWORKS = (("accuracy", "Test accuracy, %", 100.0, "psnr"), ("loss", "Test loss", 1.0, "ssim"))
"""Tables of the networks: measure, title, factor, and the metric with as many decimals."""

COMPARED = ("psnr", "recovered")

STYLE: dict[str, Any] = {"box": box.MARKDOWN, "padding": (0, 1)}
"""Style of tables on the terminal: Markdown without edges, to paste into a page."""

Row = dict[str, Any]
"""One cell with one size of batches, as in the file."""


def differences(rows: Sequence[Row]) -> list[Row]:
    """Compares every cell with the gradient of the plain network at the same time, paired by seed.

    Rows hold, for each metric, the mean difference, its 95 % interval, and the p-value of Wilcoxon's signed-rank test,
    also after the correction of Benjamini and Hochberg over all rows of the metric.
    """
    plain = {(row["epochs"], row["batch"]): row for row in rows if (row["victim"], row["leak"]) == ("plain", RAW)}
    others = [row for row in rows if row["victim"] != REFERENCE and (row["victim"], row["leak"]) != ("plain", RAW)]
    compared = []
    for metric in COMPARED:
        new = [_difference(metric, row, plain[row["epochs"], row["batch"]]) for row in others]
        corrected = adjusted([row["p"] for row in new])
        compared += [row | {"p_corrected": p} for row, p in zip(new, corrected, strict=True)]
    return compared


def _difference(metric: str, row: Row, plain: Row) -> Row:
    names = {name: row[name] for name in ("victim", "epochs", "leak", "batch")}
    return names | {
        "metric": metric,
        **paired(row[metric], plain[metric])._asdict(),
        "p": p_value(row[metric], plain[metric]),
    }


def tables(results: Row) -> list[Table]:
    """Makes all tables, in the form of Markdown."""
    seeds = len(results["seeds"])
    caption = f"Mean {over(seeds)}"
    rows, sizes = results["rows"], sorted({row["batch"] for row in results["rows"]})
    all_tables = [_networks(results["networks"], *options) for options in NETWORKS]
    for metric, title in METRICS.items():
        cells = {(*_name(row), row["batch"]): spell(interval(row[metric]), metric) for row in rows}
        all_tables.append(_table(f"{title}. {caption}", cells, sizes))
    for metric in COMPARED:
        cells = {(*_name(row), row["batch"]): _apart(row) for row in results["differences"] if row["metric"] == metric}
        title = f"difference from the plain network's gradient, paired. * p < {SIGNIFICANT}, corrected"
        all_tables.append(_table(f"{METRICS[metric]}: {title}", cells, sizes))
    return [*all_tables, _table("PSNR, dB: split minus plain at four times the rate, paired (p)", _fair(rows), sizes)]


def _fair(rows: Sequence[Row]) -> dict[tuple[str, str, str, int], str]:
    """Compares split networks with plain ones that learn about as fast; p is not corrected."""
    base = {(row["epochs"], row["batch"]): row for row in rows if row["victim"] == "plain, lr x 4"}
    split = [row for row in rows if row["victim"] == "split"]
    apart = [_difference("psnr", row, base[row["epochs"], row["batch"]]) for row in split]
    p = ["" if math.isnan(row["p"]) else f" ({row['p']:.2g})" for row in apart]
    cells = [f"{spell(row, 'psnr', '+')}{text}" for row, text in zip(apart, p, strict=True)]
    return {(*_name(row), row["batch"]): cell for row, cell in zip(split, cells, strict=True)}


def _name(row: Row) -> tuple[str, str, str]:
    return "any" if row["epochs"] is None else f"{row['epochs']}", row["victim"], row["leak"]


def _table(title: str, cells: dict[tuple[str, str, str, int], str], sizes: Iterable[int]) -> Table:
    headings = ("epochs", "network", "leak", *(intervals.counted(size, "image") for size in sizes))
    order = [*VICTIMS, REFERENCE]
    # The sort is stable: leaks stay in their order.
    names = sorted(dict.fromkeys(key[:3] for key in cells), key=lambda name: (_number(name[0]), order.index(name[1])))
    rows = [[*name, *(cells.get((*name, size), "") for size in sizes)] for name in names]
    return Table(headings, rows, {**STYLE, "title": title}, keys=3)


def _number(epochs: str) -> float:
    return float(epochs) if epochs.isdecimal() else math.inf


def _networks(rows: Sequence[Row], name: str, title: str, scale: float, metric: str) -> Table:
    epochs = sorted({row["epochs"] for row in rows})
    values = {(row["victim"], row["epochs"]): [scale * value for value in row[name]] for row in rows}
    cells = [
        [victim, *(spell(interval(values[victim, epoch]), metric) for epoch in epochs)]
        for victim in dict.fromkeys(row["victim"] for row in rows)
    ]
    return Table(
        ("network", *(intervals.counted(epoch, "epoch") for epoch in epochs)), cells, {**STYLE, "title": title}
    )


DECIMALS = {"psnr": 1, "recovered": 2, "ssim": 3, "mse": 4}


def spell(ends: Interval | Row, metric: str, sign: str = "") -> str:
    """Writes an interval with the decimals of its metric."""
    return intervals.spell(ends, f".{DECIMALS[metric]}f", sign=sign, missing="")


def _apart(row: Row) -> str:
    return spell(row, row["metric"], "+") + " *" * is_significant(row["p_corrected"])
