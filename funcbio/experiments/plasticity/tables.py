"""Tables of the search and of the results, for the terminal and for the documents."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from funcbio.experiments.frame.intervals import counted, over, spell, spell_p
from funcbio.experiments.frame.table import NARROW, Table
from funcbio.experiments.plasticity.methods import BENCHMARKS, OPTIMIZERS, is_limit
from funcbio.experiments.plasticity.settings import Settings

LIMIT = "*: at a limit of its range"
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
    """Makes the table of the search: every method's best candidates, as the deciding seeds rank them."""
    headings, rows = ("tasks", "optimizer", "method", "tried", "best", "accuracy", "next best", "accuracy"), []
    for entry in entries:
        names = entry["benchmark"], NAMES[entry["optimizer"]], entry["method"], str(len(entry["tried"]))
        ranked = sorted(entry["decided"], key=lambda row: row[-1], reverse=True)
        shown = [(_numbers(dict(zip(entry["numbers"], row, strict=False))), f"{100 * row[-1]:.1f}") for row in ranked]
        rows.append([*names, *(cell for cells in shown[:2] for cell in cells)])
    return Table(headings, rows, {"title": "Accuracy over all tasks, %", "caption": f"{LIMIT}."}, keys=3, tied=(5, 7))


def result_tables(rows: Sequence[dict[str, Any]], settings: Settings) -> list[Table]:
    """Makes a table for each row of tasks and optimizer."""
    caption = f"Mean {over(settings.seeds)}; {counted(settings.tasks, 'task')}; q: Wilcoxon's, adjusted; {LIMIT}."
    titled = {f"{title}: accuracy before learning, %": list(map(_cells, part)) for title, part in _parts(rows)}
    return [Table(HEADINGS, cells, {"title": title, "caption": caption}, tied=(7,)) for title, cells in titled.items()]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Writes the same tables for the documents."""
    parts = {title: Table(HEADINGS, list(map(_cells, part))) for title, part in _parts(rows)}
    text = "".join(f"**{title}**\n\n{table.markdown(NARROW)}\n\n" for title, table in parts.items())
    return f"{text}{turnover(rows).markdown(NARROW)}\n"


def turnover(rows: Sequence[dict[str, Any]]) -> Table:
    """Makes the table of methods that add to another one, with the effect of each."""
    lines = []
    for title, part in _parts(rows):
        for row in part:
            if "against" in row:
                added = [spell(row["against"][name], scale=100.0, sign="+") for name in ("all", "last")]
                lines.append([title, row["method"].split(",")[0], *added, spell_p(row["against"]["q"])])
    return Table(ADDED, lines)


def _cells(row: dict[str, Any]) -> list[str]:
    means = [f"{100 * row[name]['mean']:.1f}" for name in ("all", "first")]
    last, lost = (spell(row[key], scale=100.0, sign=sign) for key, sign in (("last", ""), ("lost", "+")))
    cells = [row["method"], _numbers(row["numbers"]), *means, last, lost]
    if "against_plain" not in row:
        return [*cells, "", ""]
    return [*cells, spell(row["against_plain"], scale=100.0, sign="+"), spell_p(row["q"])]


def _numbers(numbers: Mapping[str, float]) -> str:
    """Writes names and values; a star where a value is at a limit of its search."""
    return ", ".join(f"{name} {value:g}{'*' * is_limit(name, value)}" for name, value in numbers.items())


def _parts(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for benchmark, optimizer in product(BENCHMARKS, OPTIMIZERS):
        title = f"{TITLES[benchmark]}, {NAMES[optimizer]}"
        part = [row for row in rows if (row["benchmark"], row["optimizer"]) == (benchmark, optimizer)]
        if part:
            yield title, part
