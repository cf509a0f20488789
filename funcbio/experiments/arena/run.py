"""``python -m funcbio arena``: tunes and trains every method on every row of tasks, shows and writes the results."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import TimeRemainingColumn

from funcbio.experiments.arena import figures, tables
from funcbio.experiments.arena.contrasts import contrasts
from funcbio.experiments.arena.merging import take_over
from funcbio.experiments.arena.methods import NAMES, OPTIMIZERS, PLAIN, Method, methods_of
from funcbio.experiments.arena.results import compared
from funcbio.experiments.arena.search import search
from funcbio.experiments.arena.settings import Settings
from funcbio.experiments.arena.tasks import ROWS, Row
from funcbio.experiments.arena.tasks.images import pool
from funcbio.experiments.arena.training import clear, shared, train
from funcbio.experiments.frame.bar import bars
from funcbio.experiments.frame.experiment import Output, begin
from funcbio.experiments.frame.files import rounded, save_figure, write_text
from funcbio.experiments.frame.results import about, run_path, versions
from funcbio.experiments.frame.settings import SettingError
from funcbio.files import FileError


class Part(NamedTuple):
    """Names one part of the work: a method on a row of tasks with an optimizer."""

    row: Row
    method: Method
    optimizer: str


def run(settings: Settings, *, quick: bool, list: bool, finished: bool, only: Sequence[str] | None = None) -> None:
    """Runs the arena, or goes on with it.

    Raises:
        SettingError: If a setting does not fit the data, or the output cannot be written; before any training.
    """
    if list:
        print("\n".join(NAMES))
        return
    settings = settings.only(only)
    settings = settings.quick() if quick else settings
    with begin(settings, rows_of) as (rows, output):
        every, runs = [*parts(settings, rows)], []
        asked = {*settings.chosen("methods", NAMES)} - {PLAIN}
        there = [part for part in every if part.method.name in asked] if asked else every
        check_any(there, "methods should be some that the optimizer and the network have; found none of them")
        take_over(settings, [name_of(settings, part) for part in every], output.folder)
        if finished:
            here = [part for part in every if run_path(output.folder, name_of(settings, part)).exists()]
            check_any(here, f"output should hold finished parts of these settings; found none in {settings.output!r}")
            output.say(f"Finished: {len(here)} of {len(every)} parts")
            every = here
        with bars(TimeRemainingColumn()) as new_bar:
            tick = new_bar("methods", len(every))
            for part in every:
                runs.append(result_of(settings, part, output))
                tick()
        shared(lambda: finish(settings, runs, output))


def rows_of(settings: Settings) -> dict[str, Row]:
    """Returns the rows of tasks that the settings choose, of one data set."""
    images = pool(settings.data, settings.folder)
    return {name: ROWS[name](images) for name in settings.chosen("tasks", ROWS)}


def parts(settings: Settings, rows: dict[str, Row]) -> Iterator[Part]:
    """Yields all parts of the work that the settings choose, in order."""
    names = settings.chosen("methods", NAMES)
    for row in rows.values():
        for optimizer in settings.chosen("optimizers", OPTIMIZERS):
            for method in methods_of(optimizer, normed=row.normed):
                if method.name in names:
                    yield Part(row, method, optimizer)


def name_of(settings: Settings, part: Part) -> str:
    """Returns the name of a part, by which its results are kept."""
    return f"{settings.data} {part.row.name} {part.optimizer} {part.method.name}"


def check_any(every: Sequence[Part], message: str) -> None:
    """Raises SettingError if there is no part."""
    if not every:
        raise SettingError(message)


def result_of(settings: Settings, part: Part, output: Output) -> dict[str, Any]:
    """Returns the result of a part, from its file or by training."""
    name = name_of(settings, part)
    result = output.load_or_run(name, partial(trained, settings, part, output.folder / "sweeps" / name))
    found = " ".join(f"{result.get(item)}" for item in ("data", "task", "optimizer", "method"))
    if found != name:
        raise FileError(f"{run_path(output.folder, name)} should hold the results of {name}; found {found}")
    clear(output.folder / "sweeps" / name)
    return result


def trained(settings: Settings, part: Part, folder: Path) -> dict[str, Any]:
    """Searches the numbers of a method, then trains it with all seeds."""
    best, searched = search(settings, *part, folder)
    seeds = [*range(settings.seeds)]
    measured = train(settings, *part, [best], seeds, folder / "results")
    names = {"data": settings.data, "task": part.row.name, "optimizer": part.optimizer, "method": part.method.name}
    return shared(
        lambda: {
            **names,
            **searched,
            "versions": versions(),
            "seeds": seeds,
            "values": rounded(measured.values[0]),
            "seconds": measured.seconds,
        }
    )


def finish(settings: Settings, runs: list[dict[str, Any]], output: Output) -> None:
    """Writes and shows the results."""
    table, questions = compared(runs), contrasts(runs)
    content = {**about(settings), "table": table, "contrasts": questions, "runs": runs}
    output.write("results.json", content, indent=None)
    output.show(*tables.result_tables(table, settings.seeds), *tables.contrast_tables(questions, settings.seeds))
    write_text(output.folder / "table.md", tables.markdown(table, questions))
    for name, figure in figures.every(content).items():
        save_figure(output.folder / f"{name}.svg", figure)
    output.end()
