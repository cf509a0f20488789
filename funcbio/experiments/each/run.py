"""``python -m funcbio each``: tunes and trains, shows and writes what came out."""

from pathlib import Path
from typing import Any

import torch

from funcbio.aside import write_aside
from funcbio.experiments.each import figures, protocol, tables
from funcbio.experiments.each.protocol import OPTIMIZERS, PLAIN
from funcbio.experiments.each.settings import Settings
from funcbio.experiments.frame.files import prepare, write_json
from funcbio.experiments.frame.intervals import adjusted, interval, p_value, paired
from funcbio.experiments.frame.kept import numbers_of, versions
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.frame.terminal import console as terminal


def run(settings: Settings) -> dict[str, Any]:
    """Runs the comparison, or goes on with it.

    Args:
        settings: The settings.

    Returns:
        What stands in ``results.json``.

    Raises:
        SettingError: If a setting does not fit the data, or the output is that of another comparison.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    output, console = prepare(settings.output), terminal()
    results: dict[str, Any] = {"settings": numbers_of(settings), "versions": versions()}
    try:
        for optimizer in OPTIMIZERS:
            console.print(f"{tables.NAMES[optimizer]}: learning rates, then all seeds", highlight=False)
            results[optimizer] = _compared(settings, optimizer, output)
    except ValueError as error:
        raise SettingError(f"{error}") from error
    write_json(output / "results.json", results)
    figure = figures.figure(results)
    write_aside(output / "each.svg", lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))
    for optimizer in OPTIMIZERS:
        console.print(tables.table(results, optimizer), "")
    console.print(f"Written: {output}", highlight=False, soft_wrap=True)
    return results


def _compared(settings: Settings, optimizer: str, output: Path) -> list[dict[str, Any]]:
    """Rows of one optimizer: accuracy, and the difference from plain, in per cent; p adjusted for all mechanisms."""
    tried = protocol.tune(settings, optimizer, output / f"{optimizer}-tune")
    best = {name: max(rates, key=rates.__getitem__) for name, rates in tried.items()}
    found = protocol.final(settings, optimizer, best, output / optimizer)
    seeds = {name: [100.0 * value for value in values] for name, values in found.items()}
    others = [name for name in seeds if name != PLAIN]
    corrected = dict(zip(others, adjusted([p_value(seeds[name], seeds[PLAIN]) for name in others]), strict=True))
    rows = []
    for name, values in seeds.items():
        row = {"mechanism": name, "lr": best[name], "tried": {f"{lr:g}": mean for lr, mean in tried[name].items()}}
        row |= {"accuracy": interval(values)._asdict(), "seeds": values}
        if name in corrected:
            row |= {"difference": paired(values, seeds[PLAIN])._asdict(), "q": corrected[name]}
        rows.append(row)
    return rows
