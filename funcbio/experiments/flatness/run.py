"""``python -m funcbio flatness``: trains every variant, measures it on the way, shows and writes what came out."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from funcbio.aside import write_aside
from funcbio.experiments.data import check_batch_size, digits
from funcbio.experiments.flatness import figures, tables
from funcbio.experiments.flatness.results import compared
from funcbio.experiments.flatness.settings import Settings
from funcbio.experiments.flatness.training import VARIANTS, train
from funcbio.experiments.frame.bar import bar
from funcbio.experiments.frame.files import prepare, write_json
from funcbio.experiments.frame.kept import kept, numbers_of, versions
from funcbio.experiments.frame.terminal import console as terminal


def run(settings: Settings) -> None:
    """Runs the measurement, prints its table and writes its files.

    Args:
        settings: The settings.

    Raises:
        SettingError: If a setting does not fit the data or the output cannot be written; before any training.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    data = digits()
    check_batch_size(settings.batch_size, data)
    output, console, runs = prepare(settings.output), terminal(), []
    each = len(settings.moments)
    with bar("measurements", each * len(VARIANTS)) as tick:
        for variant in VARIANTS:
            found = kept(output, variant.name, settings, partial(train, settings, data, variant, partial(tick, 1)))
            runs.append({"variant": variant.name, "lr": settings.lr * variant.lr, **found})
    rows = compared(runs)
    about = {"settings": numbers_of(settings), "versions": versions(), "seeds": list(range(settings.seeds))}
    content = {**about, "moments": list(settings.moments), "table": rows, "runs": runs}
    write_json(output / "results.json", content, indent=None)
    console.print(tables.result_table(rows, settings))
    write_aside(output / "table.md", lambda file: file.write(tables.markdown(rows, settings.seeds).encode()))
    draw(content, output)
    console.print(f"Written: {output}", highlight=False, soft_wrap=True)


def draw(content: dict[str, Any], folder: Path) -> None:
    """Draws the figure from the content of a results file."""
    figure = figures.curvature(content)
    write_aside(folder / "flatness-curvature.svg", lambda file: figure.savefig(file, format="svg"))
