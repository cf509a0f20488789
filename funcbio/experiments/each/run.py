"""``python -m funcbio each``: tunes and trains, shows and writes the results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funcbio.experiments.each import figures, protocol, tables
from funcbio.experiments.each.protocol import OPTIMIZERS, PLAIN
from funcbio.experiments.each.settings import Settings
from funcbio.experiments.frame.experiment import begin
from funcbio.experiments.frame.files import UNDATED, save_figure
from funcbio.experiments.frame.intervals import adjusted, interval, p_value, paired
from funcbio.experiments.frame.only import chosen, folder_name
from funcbio.experiments.frame.results import about


def run(settings: Settings, *, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs the comparison, or goes on with it, of all mechanisms or some; writes the results and returns them.

    Raises:
        ValueError: If a setting does not fit the data, or the output is that of another comparison.
    """
    groups = {"optimizers": [*OPTIMIZERS], "mechanisms": [*protocol.variants(settings)]}
    some = chosen(only, groups, [PLAIN])
    names = some["mechanisms"]
    with begin(settings, lambda _: None) as (_, output):
        results = about(settings)
        for optimizer in some["optimizers"]:
            output.terminal.print(f"{tables.NAMES[optimizer]}: learning rates, then all seeds", highlight=False)
            results[optimizer] = _compared(settings, optimizer, output.folder, names)
        output.write("results.json", results)
        save_figure(output.folder / "each.svg", figures.figure(results), **UNDATED)
        output.show(*(tables.table(results, optimizer) for optimizer in some["optimizers"]))
        output.end()
        return results


def _compared(settings: Settings, optimizer: str, output: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Makes rows of one optimizer: accuracy and difference from plain, in per cent; p adjusted for all mechanisms."""
    every = [*protocol.variants(settings)]
    tuning, final = (output / folder_name(name, names, every) for name in (f"{optimizer}-tune", optimizer))
    tried = protocol.tune(settings, optimizer, tuning, names)
    best = {name: max(rates, key=rates.__getitem__) for name, rates in tried.items()}
    accuracies = protocol.final(settings, optimizer, best, final)
    seeds = {name: [100.0 * value for value in values] for name, values in accuracies.items()}
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
