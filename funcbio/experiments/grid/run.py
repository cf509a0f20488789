"""``python -m funcbio grid``: trains the cells, sums them up, writes numbers, tables and figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from funcbio import SweepResult
from funcbio.experiments.datasets import load
from funcbio.experiments.frame import only as names
from funcbio.experiments.frame.experiment import Output, begin
from funcbio.experiments.frame.files import UNDATED, save_figure, write_text
from funcbio.experiments.frame.results import about
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.grid import figures, measures, tables
from funcbio.experiments.grid.protocol import PROTOCOLS, TUNING_SEEDS, Cell, Grid, cells, chosen, name_of
from funcbio.experiments.grid.settings import GridSettings


def main(
    settings: GridSettings, *, quick: bool, check: bool, path: Path | None, only: Sequence[str] | None = None
) -> None:
    """Runs the grid, in a small size if ``quick``, or draws a file of results."""
    if path is not None:
        draw(path)
    else:
        run(settings.quick() if quick else settings, check=check, only=only)


def run(settings: GridSettings, *, check: bool = True, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains the grid, or goes on with it; writes and returns the results.

    Args:
        settings: The settings.
        check: Whether to compare checksums of images.
        only: Names of the cells and protocols to run; the plain cell comes along. None runs all.

    Raises:
        ValueError: If a setting does not fit the images, or the output is that of another grid.
    """
    every = cells(settings)
    some = names.chosen(only, {"protocols": PROTOCOLS, "cells": [*map(name_of, every)]}, [name_of(every[0])])
    with begin(settings, lambda _: load(settings.data, settings.folder, check=check)) as (images, output):
        grid = Grid(settings, images, output.folder, [cell for cell in every if name_of(cell) in some["cells"]])
        _check_sizes(settings, grid)
        tuning, swept = _train(grid, output, some["protocols"])
        results = {**_head(grid, tuning), **{name: _summary(grid, result) for name, result in swept.items()}}
        output.write("results.json", results)
        draw(output.folder / "results.json")
        for protocol in some["protocols"]:
            output.show(tables.table(results, protocol), tables.difference_table(results, protocol))
        output.end()
        return results


def _train(
    grid: Grid, output: Output, protocols: Sequence[str]
) -> tuple[dict[Cell, dict[float, float]], dict[str, SweepResult]]:
    tuning, swept, count = {}, {}, len(protocols) + ("tuned" in protocols)
    if "tuned" in protocols:
        output.say(f"1 of {count}: learning rates, on validation images")
        tuning = chosen(grid.tune(), grid.settings, grid.cells)
    if "paper" in protocols:
        output.say(f"{count - ('tuned' in protocols)} of {count}: the paper's protocol")
        swept["paper"] = grid.paper()
    if "tuned" in protocols:
        output.say(f"{count} of {count}: the tuned protocol")
        swept["tuned"] = grid.tuned({cell: next(iter(rates)) for cell, rates in tuning.items()})
    return tuning, swept


def _summary(grid: Grid, result: SweepResult) -> dict[str, Any]:
    """Sums up the runs of a protocol."""
    settings, each = grid.settings, grid.cells
    measured = measures.measure(result, len(each), settings.folds, settings.goal)
    held_out = len(grid.folds[0][1]) / len(grid.folds[0][0])
    return {
        "cells": measures.summarise(measured, each, held_out),
        "curves": measures.curves(result, len(each), settings.folds),
        "seconds": {"training": result.seconds, "compiling": result.compile_seconds},
    }


def draw(path: Path) -> list[Path]:
    """Draws the figures of a ``results.json`` of the grid and writes its tables, beside it; returns their paths.

    Raises:
        SettingError: If it is no such file.
    """
    try:
        results = json.loads(path.read_text())
        drawn = {"curves.svg": figures.learning_curves(results), "effects.svg": figures.effects(results)}
        text = tables.page(results)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"draw should be a results file of the grid; found {str(path)!r} ({error})") from None
    stem = "" if path.stem == "results" else f"{path.stem}-"
    for name, figure in drawn.items():
        save_figure(path.with_name(stem + name), figure, **UNDATED)
    write_text(path.with_name(f"{stem}tables.md"), text)
    return [path.with_name(stem + name) for name in (*drawn, "tables.md")]


def _check_sizes(settings: GridSettings, grid: Grid) -> None:
    count = len(grid.folds[0][0]) * 9 // 10
    if settings.batch_size > count:
        raise SettingError(f"batch_size should be at most {count}; found {settings.batch_size}")


def _head(grid: Grid, tuning: Mapping[Cell, Mapping[float, float]]) -> dict[str, Any]:
    """Returns settings, versions, images, and the search for learning rates."""
    settings, images = grid.settings, grid.images
    rates = [
        {"cell": name_of(cell), "chosen": next(iter(row)), "accuracy": {f"{lr:g}": mean for lr, mean in row.items()}}
        for cell, row in tuning.items()
    ]
    return {
        **about(settings),
        "seeds": {"grid": list(range(settings.seeds)), "tuning": list(TUNING_SEEDS)},
        "images": {"name": images.name, "count": len(images.labels), "shape": images.shape},
        "tuning": rates,
    }
