"""Tables of the search and of the results, for the terminal and for the documents."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from rich import box
from rich.table import Table

from funcbio.experiments.intervals import Interval
from funcbio.experiments.plasticity.methods import BENCHMARKS, OPTIMIZERS
from funcbio.experiments.plasticity.settings import Settings
from funcbio.experiments.report import spell

HEADINGS = (
    "method",
    "number",
    "all tasks",
    "first fifth",
    "last fifth",
    "last minus first",
    "last fifth, minus plain",
    "q",
)
ADDED = ("tasks", "added to L2 to the start", "all tasks", "last fifth")
TITLES = {"permuted": "Permuted pixels", "shuffled": "Shuffled labels"}
NAMES = {"sgd": "SGD", "adam": "Adam"}


def tuning_table(entries: Sequence[dict[str, Any]]) -> Table:
    """Makes the table of the search."""
    table = Table(title="Accuracy over all tasks, %", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("tasks", "optimizer", "method", "number", "value: accuracy", "best"):
        table.add_column(heading)
    for entry in entries:
        tried = "  ".join(f"{v:g}: {100 * a:.1f}" for v, a in zip(entry["values"], entry["accuracy"], strict=True))
        names = entry["benchmark"], NAMES[entry["optimizer"]], entry["method"], entry["knob"]
        table.add_row(*names, tried, f"{entry['best']:g}")
    return table


def result_tables(found: Sequence[dict[str, Any]], settings: Settings) -> list[Table]:
    """Makes a table for each row of tasks and optimizer."""
    tables = []
    for title, rows in _parts(found):
        title += ": accuracy before learning, %"
        caption = f"Mean [95 % interval over {settings.seeds} seeds]; {settings.tasks} tasks; q: Wilcoxon's, adjusted."
        table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for heading in HEADINGS:
            table.add_column(heading)
        for row in rows:
            table.add_row(*_cells(row))
        tables.append(table)
    return tables


def markdown(found: Sequence[dict[str, Any]]) -> str:
    """Writes the same tables for the documents."""
    text = ""
    for title, rows in _parts(found):
        text += f"**{title}**\n\n"
        text += f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}\n"
        text += "".join(f"| {' | '.join(_cells(row))} |\n" for row in rows) + "\n"
    return text + turnover(found)


def turnover(found: Sequence[dict[str, Any]]) -> str:
    """Writes what methods add to the one that they stand on."""
    text = f"| {' | '.join(ADDED)} |\n|{'---|' * len(ADDED)}\n"
    for title, rows in _parts(found):
        for row in rows:
            if "against" in row:
                added = [spell(Interval(**row["against"][name]), scale=100.0, sign="+") for name in ("all", "last")]
                text += f"| {title} | {row['method'].split(',')[0]} | {' | '.join(added)} |\n"
    return text


def _cells(row: dict[str, Any]) -> list[str]:
    means = [f"{100 * row[name]['mean']:.1f}" for name in ("all", "first")]
    last, lost = (spell(Interval(**row[key]), scale=100.0, sign=sign) for key, sign in (("last", ""), ("lost", "+")))
    cells = [row["method"], f"{row['knob']} {row['value']:g}", *means, last, lost]
    if "against_plain" not in row:
        return [*cells, "", ""]
    return [*cells, spell(Interval(**row["against_plain"]), scale=100.0, sign="+"), f"{row['q']:.3f}"]


def _parts(found: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for benchmark, optimizer in product(BENCHMARKS, OPTIMIZERS):
        title = f"{TITLES[benchmark]}, {NAMES[optimizer]}"
        yield title, [row for row in found if (row["benchmark"], row["optimizer"]) == (benchmark, optimizer)]
