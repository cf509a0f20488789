"""The comparison: both networks through both interfaces, a table, a figure and the numbers behind them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from funcbio.experiments.compare import classic, figures, functional, tables, tune
from funcbio.experiments.compare.history import NAMES, VARIANTS, History, share_slow
from funcbio.experiments.compare.settings import Settings
from funcbio.experiments.data import Digits, check_batch_size, digits, digits_for, validation
from funcbio.experiments.frame.bar import bars
from funcbio.experiments.frame.experiment import begin, set_threads
from funcbio.experiments.frame.files import save_figure, write_json
from funcbio.experiments.frame.intervals import interval
from funcbio.experiments.frame.results import versions
from funcbio.experiments.frame.terminal import console, say


def run(settings: Settings, *, tune: bool) -> None:
    """Runs the comparison, or the search for its learning rates."""
    if tune:
        tune_only(settings)
    else:
        compare(settings)


def compare(settings: Settings) -> None:
    """Runs the comparison, prints its table and writes its files.

    Raises:
        SettingError: If a setting does not fit the data or the output cannot be written; before any training.
    """
    with begin(settings, digits_for) as (data, output):
        histories = train_all(settings, data)
        table = tables.result_table(histories, test_images=len(data.test_y), epochs=settings.epochs)
        output.terminal.print(table)
        for line in tables.difference_lines(histories) + tables.rate_lines(histories):
            output.say(line)
        picture, results = output.folder / "compare.png", output.folder / "results.json"
        save_figure(picture, figures.comparison(histories), dpi=150)
        write_json(results, content(settings, histories))
        output.say(f"Written: {results} and {picture}")


def tune_only(settings: Settings) -> None:
    """Searches both learning rates, prints the table and the options that use the best ones.

    Raises:
        SettingError: If a setting does not fit the data; before any training.
    """
    set_threads(settings)
    data = digits()
    check_batch_size(settings.batch_size, validation(data))
    with bars() as new_bar:
        rows = tune.search(settings, data, new_bar("searching", 2 * settings.epochs))
    terminal = console()
    terminal.print(tables.tuning_table(rows))
    chosen = " ".join(f"--lr-{row.variant} {row.lr:g}" for row in rows if row.chosen)
    say(terminal, f"Use them by: python -m funcbio compare {chosen}")


def train_all(settings: Settings, data: Digits) -> list[History]:
    """Trains both networks, all seeds, through both interfaces."""
    seeds, loop_seeds, histories = list(range(settings.seeds)), list(range(settings.loop_seeds)), []
    with bars() as new_bar:
        for variant in VARIANTS:
            tick = new_bar(f"functional, {NAMES[variant]}", settings.epochs)
            lr = torch.full((len(seeds),), settings.lr(variant))
            histories.append(functional.train(settings, data, variant, seeds, lr, tick)[0])
        for variant in VARIANTS:
            tick = new_bar(f"classic, {NAMES[variant]}", settings.epochs * len(loop_seeds))
            histories.append(classic.train(settings, data, variant, loop_seeds, tick))
    return histories


def content(settings: Settings, histories: Sequence[History]) -> dict[str, Any]:
    """Returns the content of ``results.json``."""
    differences = {name: difference._asdict() for name, difference in tables.differences(histories).items()}
    runs = [_as_json(history) for history in histories]
    return {"settings": asdict(settings), "versions": versions(), "runs": runs, "bio_minus_plain": differences}


def _as_json(history: History) -> dict[str, Any]:
    numbers = {name: value for name, value in history._asdict().items() if not name.startswith("rate_")}
    row = {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in numbers.items()}
    row |= {"epochs_to_goal": history.epochs_to_goal, "final": interval(history.final.double().tolist())._asdict()}
    if history.variant == "bio":
        shares = {"start": figures.shares(history.rate_start), "end": figures.shares(history.rate_end)}
        row["rate_factors"] = {"bin_edges": figures.EDGES.tolist(), "share": shares}
        row["share_slow_at_end"] = share_slow(history.rate_end)
    return row
