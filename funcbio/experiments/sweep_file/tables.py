"""The tables that ``python -m funcbio sweep`` shows and writes at the end."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table as RichTable

from funcbio import SweepResult
from funcbio.experiments.frame.files import write_text
from funcbio.experiments.frame.table import Table
from funcbio.plot._sweep_curves import spell

MOST_ROWS = 40
"""Most rows of a table on the screen; its file holds all of them."""


def write_tables(result: SweepResult, compare: Mapping[str, Any] | None, folder: Path) -> None:
    """Writes the whole table as Parquet, the summary of every metric, and the comparison if there is one."""
    result.to_parquet(folder / "table.parquet")
    _write_csv(folder / "summary.csv", summaries(result))
    if compare is not None:
        _write_csv(folder / "comparison.csv", result.compare(**compare))


def summaries(result: SweepResult) -> pd.DataFrame:
    """Returns the summaries of all metrics at the last step, below one another."""
    frames = [result.summary(metric) for metric in result.metrics]
    for metric, frame in zip(result.metrics, frames, strict=True):
        frame.insert(0, "metric", metric)
    return pd.concat(frames, ignore_index=True)


def summary_table(result: SweepResult, metric: str) -> RichTable:
    """Shows mean and interval of a metric for every combination of hyper-parameters."""
    frame = result.summary(metric)
    columns = {**_columns(frame, result.hyper), "seeds": [f"{count}" for count in frame["members"]]}
    if any(frame["diverged"]):
        columns["diverged"] = [f"{count}" for count in frame["diverged"]]
    columns["mean [95 % interval over seeds]"] = _intervals(frame, "mean")
    return _table(f"{metric} at step {result.table['step'][-1]}", columns)


def comparison_table(result: SweepResult, metric: str, by: str, baseline: Any) -> RichTable:
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


def _table(title: str, columns: Mapping[str, Sequence[str]]) -> RichTable:
    rows = list(zip(*columns.values(), strict=True))
    table = Table(list(columns), rows[:MOST_ROWS], {"title": title, "title_justify": "left", "min_width": len(title)})
    printed = table.rich()
    if len(rows) > MOST_ROWS:
        printed.add_row(f"... and {len(rows) - MOST_ROWS} more")
    return printed


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))
