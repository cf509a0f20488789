"""What ``python -m funcbio sweep`` shows and writes at the end: tables, figures and parameters."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from rich import box
from rich.table import Table

from funcbio import SweepResult
from funcbio.files._aside import write_aside
from funcbio.plot._sweep_curves import PALETTE, spell

DPI = 150
MOST_ROWS = 40
"""Of a table on the screen; the rest is in its file."""


def write_tables(result: SweepResult, compare: Mapping[str, Any] | None, folder: Path) -> None:
    """Writes the whole table as Parquet, the summary of every metric, and the comparison if there is one."""
    result.to_parquet(folder / "table.parquet")
    _write_csv(folder / "summary.csv", summaries(result))
    if compare is not None:
        _write_csv(folder / "comparison.csv", result.compare(**compare))


def write_figures(result: SweepResult, folder: Path) -> None:
    """Draws what there is to draw: curves of several steps, a map of two numeric hyper-parameters."""
    if len(set(result.table["step"])) > 1:
        _write_figures(folder / "curves.png", result, lambda metric: result.curves(metric, _lines(result)))
    numeric = [name for name in result.hyper if _varies(result.table[name])]
    if len(numeric) == 2:
        x, y = numeric
        _write_figures(folder / "heatmap.png", result, lambda metric: result.heatmap(metric, x, y))


def summaries(result: SweepResult) -> pd.DataFrame:
    """The summaries of all metrics at the last step, below one another."""
    frames = [result.summary(metric) for metric in result.metrics]
    for metric, frame in zip(result.metrics, frames, strict=True):
        frame.insert(0, "metric", metric)
    return pd.concat(frames, ignore_index=True)


def summary_table(result: SweepResult, metric: str) -> Table:
    """Shows mean and interval of a metric for every combination of hyper-parameters."""
    frame = result.summary(metric)
    columns = {**_columns(frame, result.hyper), "seeds": [f"{count}" for count in frame["members"]]}
    if any(frame["diverged"]):
        columns["diverged"] = [f"{count}" for count in frame["diverged"]]
    columns["mean [95 % interval over seeds]"] = _intervals(frame, "mean")
    return _table(f"{metric} at step {result.table['step'][-1]}", columns)


def comparison_table(result: SweepResult, metric: str, by: str, baseline: Any) -> Table:
    """Shows what every value of a hyper-parameter changes, paired by seed."""
    frame = result.compare(metric, by, baseline)
    columns = {**_columns(frame, result.hyper), "pairs": [f"{count}" for count in frame["pairs"]]}
    columns["difference [95 % interval]"] = _intervals(frame, "difference")
    columns["p"] = [f"{value:.2g}" for value in frame["p_value"]]
    return _table(f"{metric}: difference from {spell(baseline)}, paired by seed (p: Wilcoxon's test)", columns)


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, list[str]]:
    return {name: [spell(value) for value in frame[name].tolist()] for name in names}


def _intervals(frame: pd.DataFrame, middle: str) -> list[str]:
    rows = zip(frame[middle], frame["low"], frame["high"], strict=True)
    return [f"{m:#.4g}" + ("" if math.isnan(low) else f" [{low:#.4g}, {high:#.4g}]") for m, low, high in rows]


def _table(title: str, columns: Mapping[str, Sequence[str]]) -> Table:
    # Without edges the table fits into 80 columns.
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title_justify="left")
    table.min_width = len(title)
    for name in columns:
        table.add_column(name)
    rows = list(zip(*columns.values(), strict=True))
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    if len(rows) > MOST_ROWS:
        table.add_row(f"... and {len(rows) - MOST_ROWS} more")
    return table


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    text = frame.to_csv(index=False, lineterminator="\n")
    write_aside(path, lambda file: file.write(text.encode()))


def _lines(result: SweepResult) -> str | None:
    """The hyper-parameter with a line for each value; None if there are colours for all combinations."""
    combinations = set(zip(*(result.table[name] for name in result.hyper), strict=True))
    if len(combinations) <= len(PALETTE):
        return None
    return "mechanisms" if "mechanisms" in result.hyper else result.hyper[0]


def _varies(column: Sequence[Any]) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)
    return numbers and len(set(column)) > 1


def _write_figures(path: Path, result: SweepResult, draw: Callable[[str], Figure]) -> None:
    """Writes the figures of all metrics, below one another, as one picture."""
    pictures = [_picture(draw(metric)) for metric in result.metrics]
    width = max(picture.shape[1] for picture in pictures)
    wide = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    content = io.BytesIO()
    imsave(content, np.vstack(wide), format="png", dpi=DPI)
    write_aside(path, lambda file: file.write(content.getvalue()))


def _picture(figure: Figure) -> np.ndarray:
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
