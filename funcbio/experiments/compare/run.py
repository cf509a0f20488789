"""The comparison: both networks through both interfaces, a table, a figure and the numbers behind them."""

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import funcbio
from funcbio.aside import write_aside
from funcbio.experiments.compare import classic, figures, functional, tables, tune
from funcbio.experiments.compare.history import NAMES, VARIANTS, History, share_slow
from funcbio.experiments.compare.settings import Settings
from funcbio.experiments.data import Digits, check_batch_size, digits, validation
from funcbio.experiments.frame.files import prepare, write_json
from funcbio.experiments.frame.intervals import interval
from funcbio.experiments.frame.terminal import console


def compare(settings: Settings) -> None:
    """Runs the comparison, prints its table and writes its files.

    Args:
        settings: The settings.

    Raises:
        SettingError: If a setting does not fit the data or the output cannot be written; before any training.
    """
    data = _begin(settings)
    check_batch_size(settings.batch_size, data)
    output, terminal = prepare(settings.output), console()
    histories = train_all(settings, data)
    terminal.print(tables.result_table(histories, test_images=len(data.test_y), epochs=settings.epochs))
    for line in tables.difference_lines(histories) + tables.rate_lines(histories):
        terminal.print(line, highlight=False, soft_wrap=True)
    save(output, settings, histories)
    terminal.print(f"Written: {output / 'results.json'} and {output / 'compare.png'}", highlight=False, soft_wrap=True)


def tune_only(settings: Settings) -> None:
    """Searches both learning rates, prints the table and the options that use the best ones.

    Args:
        settings: The settings.

    Raises:
        SettingError: If a setting does not fit the data; before any training.
    """
    data = _begin(settings)
    check_batch_size(settings.batch_size, validation(data))
    with _progress() as progress:
        rows = tune.search(settings, data, _ticker(progress, "searching", 2 * settings.epochs))
    terminal = console()
    terminal.print(tables.tuning_table(rows))
    chosen = " ".join(f"--lr-{row.variant} {row.lr:g}" for row in rows if row.chosen)
    terminal.print(f"Use them by: python -m funcbio compare {chosen}", highlight=False, soft_wrap=True)


def train_all(settings: Settings, data: Digits) -> list[History]:
    """Trains both networks, all seeds, through both interfaces."""
    seeds, loop_seeds, histories = list(range(settings.seeds)), list(range(settings.loop_seeds)), []
    with _progress() as progress:
        for variant in VARIANTS:
            tick = _ticker(progress, f"functional, {NAMES[variant]}", settings.epochs)
            lr = torch.full((len(seeds),), settings.lr(variant))
            histories.append(functional.train(settings, data, variant, seeds, lr, tick)[0])
        for variant in VARIANTS:
            tick = _ticker(progress, f"classic, {NAMES[variant]}", settings.epochs * len(loop_seeds))
            histories.append(classic.train(settings, data, variant, loop_seeds, tick))
    return histories


def save(output: Path, settings: Settings, histories: Sequence[History]) -> None:
    """Writes the figure and the numbers."""
    figure = figures.comparison(histories)
    write_aside(output / "compare.png", lambda file: figure.savefig(file, format="png", dpi=150))
    differences = {name: found._asdict() for name, found in tables.differences(histories).items()}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "funcbio": funcbio.__version__}
    runs = [_as_json(history) for history in histories]
    content = {"settings": asdict(settings), "versions": versions, "runs": runs, "bio_minus_plain": differences}
    write_json(output / "results.json", content)


def _begin(settings: Settings) -> Digits:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return digits()


def _as_json(history: History) -> dict[str, Any]:
    numbers = {name: value for name, value in history._asdict().items() if not name.startswith("rate_")}
    found = {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in numbers.items()}
    found |= {"epochs_to_goal": history.epochs_to_goal, "final": interval(history.final.double().tolist())._asdict()}
    if history.variant == "bio":
        shares = {"start": figures.shares(history.rate_start), "end": figures.shares(history.rate_end)}
        found["rate_factors"] = {"bin_edges": figures.EDGES.tolist(), "share": shares}
        found["share_slow_at_end"] = share_slow(history.rate_end)
    return found


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _ticker(progress: Progress, name: str, total: int) -> Callable[[], None]:
    task = progress.add_task(name, total=total)
    return lambda: progress.advance(task)
