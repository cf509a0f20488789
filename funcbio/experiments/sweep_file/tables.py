"""The tables that ``python -m funcbio sweep`` shows and writes at the end."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from funcbio import SweepResult
from funcbio.experiments.frame.files import write_text
from funcbio.experiments.frame.intervals import FEWEST, over
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


def summary_table(result: SweepResult, metric: str) -> Table:
    """Shows mean and interval of a metric for every combination of hyper-parameters."""
    frame = result.summary(metric)
    columns = {**_columns(frame, result.hyper), "seeds": [f"{count}" for count in frame["members"]]}
    if any(frame["diverged"]):
        columns["diverged"] = [f"{count}" for count in frame["diverged"]]
    counts: list[int] = (frame["members"] - frame["diverged"]).tolist()
    columns["mean [95 % interval over seeds]"] = _intervals(frame, "mean", counts)
    title = f"{metric} at step {result.table['step'][-1]}"
    return _table(title, columns, _too_few(counts), len(result.hyper))


def comparison_table(result: SweepResult, metric: str, by: str, baseline: Any) -> Table:
    """Shows what every value of a hyper-parameter changes, paired by seed."""
    frame = result.compare(metric, by, baseline)
    columns = {**_columns(frame, result.hyper), "pairs": [f"{count}" for count in frame["pairs"]]}
    pairs: list[int] = frame["pairs"].tolist()
    columns["difference [95 % interval]"] = _intervals(frame, "difference", pairs)
    columns["p"] = [f"{p:.2g}" if count >= FEWEST else "" for p, count in zip(frame["p_value"], pairs, strict=True)]
    title = f"{metric}: difference from {spell(baseline)}, paired by seed (p: Wilcoxon's test)"
    return _table(title, columns, _too_few(pairs), len(result.hyper))


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, list[str]]:
    return {name: [spell(value) for value in frame[name].tolist()] for name in names}


def _intervals(frame: pd.DataFrame, middle: str, counts: Sequence[int]) -> list[str]:
    rows = zip(frame[middle], frame["low"], frame["high"], counts, strict=True)
    return [
        f"{mean:#.4g}" + ("" if math.isnan(low) or count < FEWEST else f" [{low:#.4g}, {high:#.4g}]")
        for mean, low, high, count in rows
    ]


def _too_few(counts: Sequence[int]) -> str:
    """Says which numbers of seeds have no interval; "" if all have one."""
    return " ".join(over(count) for count in sorted({int(count) for count in counts if 0 < count < FEWEST}))


def _table(title: str, columns: Mapping[str, Sequence[str]], caption: str, keys: int) -> Table:
    rows = list(zip(*columns.values(), strict=True))
    more = f"... and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else ""
    style = {"title": title, "caption": "\n".join(filter(None, (more, caption)))}
    return Table(list(columns), rows[:MOST_ROWS], style, keys=keys)


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))
