"""``python -m funcbio plasticity``: trains every method through both rows of tasks, shows and writes the results."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from funcbio.experiments.data import all_digits
from funcbio.experiments.frame.bar import bars
from funcbio.experiments.frame.experiment import Output, begin
from funcbio.experiments.frame.files import save_figure, write_text
from funcbio.experiments.frame.results import about
from funcbio.experiments.plasticity import figures, tables, tuning
from funcbio.experiments.plasticity.methods import BENCHMARKS, OPTIMIZERS, Method
from funcbio.experiments.plasticity.results import compared, summary
from funcbio.experiments.plasticity.settings import Settings
from funcbio.experiments.plasticity.tasks import Tasks
from funcbio.experiments.plasticity.training import train


def run(settings: Settings, *, tune: bool, only: Sequence[str] | None = None) -> None:
    """Runs the experiment, or only the search for every method's numbers; of all combinations, or some.

    Raises:
        SettingError: If a setting does not fit the data or the output cannot be written; before any training.
    """
    parts = [*tuning.combinations(only)]
    with begin(settings, rows_of) as (rows, output):
        each = settings.tuning_tasks * (settings.rounds + 1) if tune else settings.tasks
        with bars() as new_bar:
            tick = new_bar("tasks", each * len(parts))
            if tune:
                output.terminal.print(tables.tuning_table(tuning.search(settings, rows, output.folder, tick, parts)))
                return
            runs = train_all(settings, rows, output, tick, parts)
        table = compared(runs)
        content = {**about(settings), "table": table, "runs": runs}
        output.write("results.json", content, indent=None)
        output.show(*tables.result_tables(table, settings))
        write_text(output.folder / "table.md", tables.markdown(table))
        draw(content, output.folder)
        output.end()


def rows_of(settings: Settings) -> dict[str, Tasks]:
    """Returns both rows of tasks, of all images: there is no test part, as every task is new."""
    x, y = all_digits()
    return {benchmark: settings.row(benchmark, x, y) for benchmark in BENCHMARKS}


def train_all(
    settings: Settings,
    rows: dict[str, Tasks],
    output: Output,
    tick: Callable[[], None],
    parts: Sequence[tuning.Combination],
) -> list[dict[str, Any]]:
    """Trains some combinations, or reads from the folder what was trained before."""
    best, runs = tuning.load_best(output.folder), []
    for benchmark, optimizer, method in parts:
        names: dict[str, Any] = {"benchmark": benchmark, "optimizer": optimizer, "method": method.name}
        names["numbers"] = best[benchmark][optimizer][method.name]
        name = f"{benchmark} {optimizer} {method.name}"
        runs.append(output.load_or_run(name, partial(_train, settings, rows, names, method, tick)))
    return runs


def _train(
    settings: Settings, rows: dict[str, Tasks], names: dict[str, Any], method: Method, tick: Callable[[], None]
) -> dict[str, Any]:
    numbers = {name: torch.full((settings.seeds,), value) for name, value in names["numbers"].items()}
    measured = train(
        rows[names["benchmark"]],
        method,
        names["optimizer"],
        range(settings.seeds),
        numbers,
        tasks=settings.tasks,
        measured_every=settings.tasks // settings.blocks,
        compile=settings.compile == "yes",
        tick=tick,
    )
    return summary(settings, names, measured)


def draw(content: dict[str, Any], folder: Path) -> None:
    """Draws the figures from the content of a results file, of the optimizers that are in it."""
    there = [optimizer for optimizer in OPTIMIZERS if any(run["optimizer"] == optimizer for run in content["runs"])]
    for (name, drawn), optimizer in product((("tasks", figures.tasks), ("inside", figures.inside)), there):
        save_figure(folder / f"plasticity-{name}-{optimizer}.svg", drawn(content, optimizer))
