"""Measures of every run, and their summary by cell: means, intervals, paired tests."""

import math
from typing import Any

import numpy as np
from scipy import stats

from funcbio import SweepResult
from funcbio.experiments.frame.intervals import ROUNDING, adjusted, interval
from funcbio.experiments.grid.protocol import Cell, name_of

MEASURES = {
    "accuracy": "test accuracy, %",
    "loss": "test loss",
    "epochs": "epochs to the goal",
    "gap": "test loss minus training loss",
    "area": "mean accuracy over all epochs, %",
}
POINTS = 50
"""Most points of a learning curve in the results file."""


def curves_of(result: SweepResult, cells: int, folds: int, metric: str) -> np.ndarray:
    """Returns a metric after every epoch, shape ``(cells, folds, seeds, epochs)``: members come in this order."""
    epochs = len(set(result.table["step"]))
    return np.array(result.table[metric], dtype=float).reshape(cells, folds, -1, epochs)


def measure(result: SweepResult, cells: int, folds: int, goal: float) -> dict[str, np.ndarray]:
    """Returns every measure of every run, shape ``(cells, folds, seeds)``.

    "epochs" is the first one, from 1, after which the accuracy is at least the goal; the number of all epochs for runs
    that never get there. "gap" takes the training loss as the mean over the batches of the last epoch, each before it
    was learned from.
    """
    accuracy, loss, train = (
        curves_of(result, cells, folds, metric) for metric in ("test_accuracy", "test_loss", "train_loss")
    )
    reached = accuracy >= goal
    epochs = np.where(reached.any(-1), reached.argmax(-1) + 1, accuracy.shape[-1])
    return {
        "accuracy": 100.0 * accuracy[..., -1],
        "loss": loss[..., -1],
        "epochs": epochs.astype(float),
        "gap": loss[..., -1] - train[..., -1],
        "area": 100.0 * accuracy.mean(-1),
        "reached": reached.any(-1).astype(float),
    }


def summarise(measured: dict[str, np.ndarray], names: list[Cell], held_out: float) -> list[dict[str, Any]]:
    """Returns a row for every cell: its measures, and how they differ from those of the first cell, the plain one.

    Seeds are the units: folds are averaged within a seed, and a cell is compared with the plain cell of the same seeds
    by Student's t. "q" is the p-value adjusted for all cells that are compared (Benjamini and Hochberg). Seeds
    say nothing of other images: "p_folds" compares the folds, with a variance corrected for images that they share
    (Nadeau and Bengio, 2003); ``held_out`` is the number of test images for each training image.
    """
    rows = [{"cell": name_of(cell), "gamma": cell[0], "mechanisms": cell[1]} for cell in names]
    for index, row in enumerate(rows):
        row["runs"] = int(measured["reached"][index].size)
        row["reached"] = int(measured["reached"][index].sum())
        row["diverged"] = int((~np.isfinite(measured["loss"][index])).sum())
    for name in MEASURES:
        values = measured[name]
        differences = [_compared(values[index] - values[0], held_out) for index in range(1, len(names))]
        corrected = adjusted([difference["p"] for difference in differences])
        for index, row in enumerate(rows):
            seeds = values[index].mean(0).tolist()
            row[name] = {**interval(seeds)._asdict(), "seeds": seeds}
            if index:
                row[name]["difference"] = {**differences[index - 1], "q": corrected[index - 1]}
    return rows


def curves(result: SweepResult, cells: int, folds: int) -> dict[str, Any]:
    """Returns the test accuracy of every cell over the epochs, in %, with its interval over seeds; thinned out."""
    accuracy = 100.0 * curves_of(result, cells, folds, "test_accuracy").mean(1)
    count = accuracy.shape[-1]
    epochs = np.unique(np.geomspace(1, count, POINTS).round().astype(int))
    picked = accuracy[..., epochs - 1]
    bands = [[interval(column.tolist()) for column in cell.T] for cell in picked]
    lines = [
        {end: [round(getattr(band, end), 3) for band in cell] for end in ("mean", "low", "high")} for cell in bands
    ]
    return {"epochs": epochs.tolist(), "cells": lines}


def _compared(differences: np.ndarray, held_out: float) -> dict[str, float]:
    """Compares a cell with the plain one by their differences, shape ``(folds, seeds)``."""
    seeds, folds = differences.mean(0), differences.mean(1)
    ends = interval(seeds.tolist())
    p = math.nan if math.isnan(ends.low) else _p_value(seeds, 0.0)
    return {**ends._asdict(), "p": p, "p_folds": _p_value(folds, held_out)}


def _p_value(differences: np.ndarray, shared: float) -> float:
    """Returns p of Student's t-test for a mean of zero, with the variance enlarged for images that folds share.

    It is 1 of zeros only, and nan where no other difference can be judged: all are the same, but for rounding.
    """
    if not np.isfinite(differences).all():
        return math.nan
    if not differences.any():
        return 1.0
    if np.ptp(differences) <= ROUNDING * np.abs(differences).max():
        return math.nan
    count, variance = len(differences), differences.var(ddof=1)
    t = differences.mean() / math.sqrt(variance * (1.0 / count + shared))
    return float(2.0 * stats.t.sf(abs(t), count - 1))
