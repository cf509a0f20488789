"""``python -m funcbio plasticity``: trains every method through both rows of tasks, shows and writes what came out."""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits

from funcbio.aside import write_aside
from funcbio.experiments.data import BRIGHTEST
from funcbio.experiments.frame.bar import bar
from funcbio.experiments.frame.files import prepare, write_json
from funcbio.experiments.frame.kept import kept, numbers_of, versions
from funcbio.experiments.frame.terminal import console as terminal
from funcbio.experiments.plasticity import figures, tables, tuning
from funcbio.experiments.plasticity.methods import BENCHMARKS, OPTIMIZERS, Method
from funcbio.experiments.plasticity.results import compared, summary
from funcbio.experiments.plasticity.settings import Settings
from funcbio.experiments.plasticity.tasks import Tasks
from funcbio.experiments.plasticity.training import train


def run(settings: Settings, *, tune: bool) -> None:
    """Runs the experiment, or the search for every method's numbers.

    Args:
        settings: The settings.
        tune: Whether to search and stop.

    Raises:
        SettingError: If a setting does not fit the data or the output cannot be written; before any training.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    rows, output, console = rows_of(settings), prepare(settings.output), terminal()
    each = settings.tuning_tasks * (settings.rounds + 1) if tune else settings.tasks
    with bar("tasks", each * len(list(tuning.combinations()))) as tick:
        if tune:
            console.print(tables.tuning_table(tuning.search(settings, rows, output, partial(tick, 1))))
            return
        runs = train_all(settings, rows, output, partial(tick, 1))
    found = compared(runs)
    content = {"settings": numbers_of(settings), "versions": versions(), "table": found, "runs": runs}
    write_json(output / "results.json", content, indent=None)
    for table in tables.result_tables(found, settings):
        console.print(table, "")
    write_aside(output / "table.md", lambda file: file.write(tables.markdown(found).encode()))
    draw(content, output)
    console.print(f"Written: {output}", highlight=False, soft_wrap=True)


def rows_of(settings: Settings) -> dict[str, Tasks]:
    """Both rows of tasks, of all images that scikit-learn ships: nothing is held back where every task is new."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).to(torch.float32) / BRIGHTEST
    y = torch.from_numpy(labels).to(torch.int64)
    return {benchmark: settings.row(benchmark, x, y) for benchmark in BENCHMARKS}


def train_all(
    settings: Settings, rows: dict[str, Tasks], output: Path, tick: Callable[[], None]
) -> list[dict[str, Any]]:
    """Trains every method, or takes from the folder what was trained before."""
    best, runs = tuning.known(output), []
    for benchmark, optimizer, method in tuning.combinations():
        about: dict[str, Any] = {"benchmark": benchmark, "optimizer": optimizer, "method": method.name}
        about["numbers"] = best[benchmark][optimizer][method.name]
        name = f"{benchmark} {optimizer} {method.name}"
        runs.append(kept(output, name, settings, lambda a=about, m=method: _train(settings, rows, a, m, tick)))
    return runs


def _train(
    settings: Settings, rows: dict[str, Tasks], about: dict[str, Any], method: Method, tick: Callable[[], None]
) -> dict[str, Any]:
    numbers = {name: torch.full((settings.seeds,), value) for name, value in about["numbers"].items()}
    found = train(
        rows[about["benchmark"]],
        method,
        about["optimizer"],
        range(settings.seeds),
        numbers,
        tasks=settings.tasks,
        measured_every=settings.tasks // settings.blocks,
        compile=settings.compile == "yes",
        tick=tick,
    )
    return summary(settings, about, found)


def draw(content: dict[str, Any], folder: Path) -> None:
    """Draws the figures from the content of a results file."""
    for (name, drawn), optimizer in product((("tasks", figures.tasks), ("inside", figures.inside)), OPTIMIZERS):
        figure, path = drawn(content, optimizer), folder / f"plasticity-{name}-{optimizer}.svg"
        write_aside(path, lambda file, f=figure: f.savefig(file, format="svg"))
