"""``python -m funcbio grid``: trains the cells, sums them up, writes numbers, tables and figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from funcbio import SweepResult
from funcbio.aside import write_aside
from funcbio.experiments.datasets import load
from funcbio.experiments.frame.files import prepare, write_json
from funcbio.experiments.frame.kept import numbers_of, versions
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.frame.terminal import console as terminal
from funcbio.experiments.grid import figures, measures, tables
from funcbio.experiments.grid.protocol import PROTOCOLS, TUNING_SEEDS, Cell, Grid, cells, chosen, name_of
from funcbio.experiments.grid.settings import GridSettings


def run(settings: GridSettings, *, check: bool = True) -> dict[str, Any]:
    """Trains the grid, or goes on with it, and writes what came out.

    Args:
        settings: The settings.
        check: Whether to compare checksums of the images' files with the published ones.

    Returns:
        What stands in ``results.json``.

    Raises:
        SettingError: If a setting does not fit the images, or the output is that of another grid.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    images = load(settings.data, settings.folder, check=check)
    grid, console = Grid(settings, images, prepare(settings.output)), terminal()
    _check_sizes(settings, grid)
    try:
        tuning, swept = _train(grid, console)
    except ValueError as error:
        raise SettingError(f"{error}") from error
    results = {**_head(grid, tuning), **{name: _summary(grid, result) for name, result in swept.items()}}
    write_json(grid.output / "results.json", results)
    draw(grid.output / "results.json")
    show(results, console)
    console.print(f"Written: {grid.output}", highlight=False, soft_wrap=True)
    return results


def _train(grid: Grid, console: Console) -> tuple[dict[Cell, dict[float, float]], dict[str, SweepResult]]:
    console.print("1 of 3: learning rates, on validation images", highlight=False)
    tuning = chosen(grid.tune(), grid.settings)
    console.print("2 of 3: the paper's protocol", highlight=False)
    paper = grid.paper()
    console.print("3 of 3: the tuned protocol", highlight=False)
    tuned = grid.tuned({cell: next(iter(rates)) for cell, rates in tuning.items()})
    return tuning, {"paper": paper, "tuned": tuned}


def _summary(grid: Grid, result: SweepResult) -> dict[str, Any]:
    """What the runs of a protocol came to."""
    settings, names = grid.settings, cells(grid.settings)
    measured = measures.measure(result, len(names), settings.folds, settings.goal)
    held_out = len(grid.folds[0][1]) / len(grid.folds[0][0])
    return {
        "cells": measures.summarise(measured, names, held_out),
        "curves": measures.curves(result, len(names), settings.folds),
        "seconds": {"training": result.seconds, "compiling": result.compile_seconds},
    }


def draw(path: Path) -> list[Path]:
    """Draws the figures of a results file, and writes its tables, beside it.

    Args:
        path: A ``results.json`` of the grid, under any name.

    Returns:
        The files.

    Raises:
        SettingError: If it is no such file.
    """
    try:
        results = json.loads(path.read_text())
        drawn = {
            "curves.svg": figures.learning_curves(results),
            "effects.svg": figures.effects(results),
        }
        text = tables.page(results)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"draw should be a results file of the grid; found {str(path)!r} ({error})") from None
    stem = "" if path.stem == "results" else f"{path.stem}-"
    written = [path.with_name(stem + name) for name in drawn]
    for target, figure in zip(written, drawn.values(), strict=True):
        write_aside(target, lambda file, figure=figure: figure.savefig(file, format="svg", metadata={"Date": None}))
    page = path.with_name(f"{stem}tables.md")
    write_aside(page, lambda file: file.write(text.encode()))
    return [*written, page]


def show(results: Mapping[str, Any], console: Console) -> None:
    """Prints the tables."""
    for protocol in PROTOCOLS:
        for rows in (tables.table(results, protocol), tables.difference_table(results, protocol)):
            found = Table(title=tables.title_of(protocol, results["settings"]), box=box.SIMPLE_HEAD, show_edge=False)
            for heading in rows[0]:
                found.add_column(heading)
            for row in rows[1:]:
                found.add_row(*row)
            console.print(found, "")


def _check_sizes(settings: GridSettings, grid: Grid) -> None:
    count = len(grid.folds[0][0]) * 9 // 10
    if settings.batch_size > count:
        raise SettingError(f"batch_size should be at most {count}; found {settings.batch_size}")


def _head(grid: Grid, tuning: Mapping[Cell, Mapping[float, float]]) -> dict[str, Any]:
    """What the results are of: settings, versions, images, and the search for learning rates."""
    settings, images = grid.settings, grid.images
    rates = [
        {"cell": name_of(cell), "chosen": next(iter(found)), "accuracy": {f"{lr:g}": own for lr, own in found.items()}}
        for cell, found in tuning.items()
    ]
    return {
        "settings": numbers_of(settings),
        "versions": versions(),
        "seeds": {"grid": list(range(settings.seeds)), "tuning": list(TUNING_SEEDS)},
        "images": {"name": images.name, "count": len(images.labels), "shape": images.shape},
        "tuning": rates,
    }
