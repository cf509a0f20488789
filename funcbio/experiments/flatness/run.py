"""``python -m funcbio flatness``: trains every variant, measures it on the way, shows and writes the results."""

from functools import partial

from funcbio.experiments.data import digits_for
from funcbio.experiments.flatness import figures, tables
from funcbio.experiments.flatness.results import compared
from funcbio.experiments.flatness.settings import Settings
from funcbio.experiments.flatness.training import VARIANTS, train
from funcbio.experiments.frame.bar import bars
from funcbio.experiments.frame.experiment import begin
from funcbio.experiments.frame.files import save_figure, write_text
from funcbio.experiments.frame.results import about
from funcbio.experiments.frame.table import NARROW


def run(settings: Settings) -> None:
    """Runs the measurement, prints its table and writes its files.

    Raises:
        SettingError: If a setting does not fit the data or the output cannot be written; before any training.
    """
    with begin(settings, digits_for) as (data, output):
        with bars() as new_bar:
            tick, runs = new_bar("measurements", len(settings.moments) * len(VARIANTS)), []
            for variant in VARIANTS:
                measures = output.load_or_run(variant.name, partial(train, settings, data, variant, tick))
                runs.append({"variant": variant.name, "lr": settings.lr * variant.lr, **measures})
        rows, seeds = compared(runs), list(range(settings.seeds))
        content = {**about(settings), "seeds": seeds, "moments": list(settings.moments), "table": rows, "runs": runs}
        output.write("results.json", content, indent=None)
        table = tables.result_table(rows, settings)
        output.terminal.print(table)
        write_text(output.folder / "table.md", f"{table.markdown(NARROW)}\n")
        save_figure(output.folder / "flatness-curvature.svg", figures.curvature(content))
        output.end()
