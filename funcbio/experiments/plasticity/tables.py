"""Tables of the search and of the results, for the terminal and for the documents."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from rich import box
from rich.table import Table

from funcbio.experiments.frame.intervals import Interval, spell
from funcbio.experiments.plasticity.methods import BENCHMARKS, OPTIMIZERS, is_limit
from funcbio.experiments.plasticity.settings import Settings

HEADINGS = (
    "method",
    "numbers",
    "all tasks",
    "first fifth",
    "last fifth",
    "last minus first",
    "last fifth, minus plain",
    "q",
)
ADDED = ("tasks", "added to L2 to the start", "all tasks", "last fifth", "q")
TITLES = {"permuted": "Permuted pixels", "shuffled": "Shuffled labels"}
NAMES = {"sgd": "SGD", "adam": "Adam"}


def tuning_table(entries: Sequence[dict[str, Any]]) -> Table:
    """Makes the table of the search: every method's best candidates, as those seeds that decide saw them."""
    table = Table(title="Accuracy over all tasks, %", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("tasks", "optimizer", "method", "tried", "best", "accuracy", "next best", "accuracy"):
        table.add_column(heading)
    for entry in entries:
        names = entry["benchmark"], NAMES[entry["optimizer"]], entry["method"], str(len(entry["tried"]))
        ranked = sorted(entry["decided"], key=lambda row: row[-1], reverse=True)
        shown = [(_numbers(dict(zip(entry["numbers"], row, strict=False))), f"{100 * row[-1]:.1f}") for row in ranked]
        table.add_row(*names, *(cell for cells in shown[:2] for cell in cells))
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
                added.append(f"{row['against']['q']:.3f}")
                text += f"| {title} | {row['method'].split(',')[0]} | {' | '.join(added)} |\n"
    return text


def _cells(row: dict[str, Any]) -> list[str]:
    means = [f"{100 * row[name]['mean']:.1f}" for name in ("all", "first")]
    last, lost = (spell(Interval(**row[key]), scale=100.0, sign=sign) for key, sign in (("last", ""), ("lost", "+")))
    cells = [row["method"], _numbers(row["numbers"]), *means, last, lost]
    if "against_plain" not in row:
        return [*cells, "", ""]
    return [*cells, spell(Interval(**row["against_plain"]), scale=100.0, sign="+"), f"{row['q']:.3f}"]


def _numbers(numbers: Mapping[str, float]) -> str:
    """Names and values; a star where a value is at a limit of its search."""
    return ", ".join(f"{name} {value:g}{'*' * is_limit(name, value)}" for name, value in numbers.items())


def _parts(found: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for benchmark, optimizer in product(BENCHMARKS, OPTIMIZERS):
        title = f"{TITLES[benchmark]}, {NAMES[optimizer]}"
        yield title, [row for row in found if (row["benchmark"], row["optimizer"]) == (benchmark, optimizer)]
