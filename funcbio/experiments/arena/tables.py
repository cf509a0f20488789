"""Tables of the results and of the questions, for the terminal and for the documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from funcbio.experiments.arena.tasks import TITLES
from funcbio.experiments.arena.tasks.row import Shown
from funcbio.experiments.frame.intervals import over, spell, spell_p
from funcbio.experiments.frame.table import NARROW, Table

NAMES = {"sgd": "SGD", "adam": "Adam"}
HEADINGS = (
    "method",
    "numbers",
    "all steps",
    "last fifth",
    "last - first",
    "minus plain",
    "q",
    "minus LayerNorm, decay",
    "q",
)
QUESTIONS = ("question", "method", "minus", "tasks", "difference", "q")

RowOfTable = Mapping[str, Any]


def result_tables(rows: Sequence[RowOfTable], seeds: int) -> list[Table]:
    """Makes a table for each data set, row of tasks and optimizer; best first."""
    caption = f"Mean {over(seeds)}, paired differences; q: Wilcoxon's, adjusted; *: at a limit of its range."
    return [replace(table, style={"title": title, "caption": caption}) for title, table in parts(rows)]


def contrast_tables(found: Sequence[RowOfTable], seeds: int) -> list[Table]:
    """Makes a table of the questions for each data set, row of tasks and optimizer."""
    every, caption = answers(found), f"Mean {over(seeds)}, paired differences; q: Wilcoxon's, adjusted."
    headings = [*QUESTIONS[1:3], *QUESTIONS[4:]]
    return [
        Table(
            headings,
            [[*cells[1:3], *cells[4:]] for cells in every if cells[3] == place],
            {"title": f"Questions, {place}: differences over all steps", "caption": caption},
            keys=2,
            tied=(3,),
        )
        for place in dict.fromkeys(cells[3] for cells in every)
    ]


def markdown(rows: Sequence[RowOfTable], found: Sequence[RowOfTable]) -> str:
    """Writes the same tables for the documents."""
    texts = [f"**{title}**\n\n{table.markdown(NARROW, '*')}\n" for title, table in parts(rows)]
    return "\n".join([*texts, f"{Table(QUESTIONS, answers(found)).markdown(NARROW)}\n"])


def parts(rows: Sequence[RowOfTable]) -> Iterator[tuple[str, Table]]:
    """Yields each table with its title, without the columns of a baseline that was not run."""
    places = dict.fromkeys((row["data"], row["task"], row["optimizer"]) for row in rows)
    for place in places:
        part = [row for row in rows if (row["data"], row["task"], row["optimizer"]) == place]
        shown = TITLES[place[1]]
        part.sort(key=lambda row: -shown.sign * (row["all"]["mean"] or 0.0))
        yield place_name(*place), _filled([_cells(row, shown) for row in part])


def _filled(cells: Sequence[Sequence[str]]) -> Table:
    first = HEADINGS.index("minus plain")
    kept = [at for at, column in enumerate(zip(*cells, strict=True)) if at < first or any(column)]
    headings = [HEADINGS[at] for at in kept]
    tied = [at for at, heading in enumerate(headings) if heading == "q"]
    return Table(headings, [[row[at] for at in kept] for row in cells], tied=tied)


def place_name(data: str, task: str, optimizer: str) -> str:
    """Returns the name of what was learned, from what, and how."""
    shown = TITLES[task]
    return ", ".join([shown.title, *([data] if shown.images else []), NAMES[optimizer]])


def _cells(row: RowOfTable, shown: Shown) -> list[str]:
    means = [spell(row[name], shown.form, scale=shown.scale) for name in ("all", "last")]
    method = row["method"] + (f" ({row['diverged']} diverged)" if row["diverged"] else "")
    cells = [method, numbers(row), *means, spell(row["change"], shown.form, scale=shown.scale, sign="+")]
    for name in ("plain", "norm"):
        test = row.get(name)
        difference = spell(test, shown.form, scale=shown.scale, sign="+") if test else ""
        cells += [difference, spell_p(test["q"]) if test else ""]
    return cells


def numbers(row: RowOfTable) -> str:
    """Writes the best numbers of a method; a star where one is at a limit of its search."""
    best = {name: value for name, value in row["best"].items() if name != "shrink_and_perturb_shrink"}
    limits = row["at_limit"]
    return ", ".join(
        f"{_short(name)} {value:.4g}{'*' * (at in limits)}" for at, (name, value) in enumerate(best.items())
    )


def _short(name: str) -> str:
    """Returns the last word of a field of the configuration."""
    return {"weight_decay": "decay", "replacement_rate": "rate"}.get(name, name.rpartition("_")[2])


def answers(found: Sequence[RowOfTable]) -> list[list[str]]:
    """Returns the cells of the questions."""
    return [_answer(one) for one in found]


def _answer(one: RowOfTable) -> list[str]:
    shown = TITLES[one["task"]]
    difference = spell(one, shown.form, scale=shown.scale, sign="+")
    place = place_name(one["data"], one["task"], one["optimizer"])
    return [one["question"], one["method"], one["other"], place, difference, spell_p(one["q"])]
