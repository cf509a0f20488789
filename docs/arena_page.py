"""Writes the tables of the arena into the documents, from the files that it wrote.

``python docs/arena_page.py`` writes them between the marks in the page of the results and below "Does it help?" of
every mechanism that was measured; a test compares.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marks import folded, marked

from funcbio.experiments.arena import tables
from funcbio.experiments.arena.methods import START
from funcbio.experiments.arena.results import PLACE
from funcbio.experiments.arena.tasks import TITLES
from funcbio.experiments.frame.intervals import spell
from funcbio.experiments.frame.table import NARROW, Table

DOCS, NAME, NONE = Path(__file__).parent, Path(__file__).name, "-"
FILES = {
    "arena": "arena.json",
    "fashion": "arena-fashion.json",
    "mnist": "arena-mnist.json",
    "quick": "arena-quick.json",
}
PAGES = {
    "rates": ["fuzzy rates"],
    "crystallization": ["crystallization"],
    "rejuvenation": ["rejuvenation", f"rejuvenation, {START}", "random turnover", f"random turnover, {START}"],
    "selective": ["selective", f"selective, {START}", "random turnover", "LayerNorm, decay, selective"],
    "l2-init": [START, f"LayerNorm, {START}", "decay"],
    "shrink-and-perturb": ["shrink and perturb", "decay"],
    "clipping": ["clipping"],
    "upgd": ["UPGD"],
    "fire": ["FIRE"],
    "hare-and-tortoise": ["hare and tortoise"],
    "redo": ["ReDo"],
    "continual-backprop": ["continual backprop", "LayerNorm, decay, continual backprop"],
    "self-normalized-resets": ["SNR"],
    "regrama": ["ReGraMa"],
}
"""Methods of the arena that say something about a mechanism, by its page."""

SHORT = ["plain", "keep_plasticity", "hare and tortoise", "LayerNorm, decay", f"LayerNorm, {START}"]
FIRST = [("adam", "pixels"), ("adam", "labels"), ("adam", "classes"), ("sgd", "pixels"), ("sgd", "labels")]
"""Methods, and optimizers with rows of tasks, of the table on the first page."""

LEAD = (
    "[The arena](../results-arena.md) compares methods over {seeds} seeds, each at its own best learning rate. The "
    "table\nshows the mean over all tasks minus that of plain training, with 95 % intervals; bold means q < 0.05.\n"
)


def read(name: str) -> dict[str, Any]:
    """Reads a file of results."""
    return json.loads((DOCS / "assets" / FILES[name]).read_text())


def all_tables(content: Mapping[str, Any]) -> str:
    """Writes every table of a file, folded."""
    parts = [folded(title, table.markdown(NARROW, "*")) for title, table in tables.parts(content["table"])]
    if content["contrasts"]:
        answers = Table(tables.QUESTIONS, tables.answers(content["contrasts"])).markdown(NARROW)
        parts.append(folded("Questions: differences over all steps", answers))
    return "\n".join(parts)


def by_place(content: Mapping[str, Any]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """Returns the rows of a file by data set, row of tasks, optimizer and method."""
    return {(*(row[part] for part in PLACE), row["method"]): row for row in content["table"]}


def helped(content: Mapping[str, Any], methods: Sequence[str]) -> str:
    """Writes how far methods are from plain training wherever they were run."""
    rows = by_place(content)
    places = dict.fromkeys((data, task, optimizer) for data, task, optimizer, _ in rows)
    present = [name for name in methods if any((*place, name) in rows for place in places)]
    cells = [
        [tables.place_name(*place), *(_cell(rows.get((*place, name)), place) for name in present)] for place in places
    ]
    cells = [line for line in cells if any(cell != NONE for cell in line[1:])]
    lead = LEAD.format(seeds=content["settings"]["seeds"])
    return f"{lead}\n{Table(('tasks', *present), cells).markdown(NARROW)}\n"


def shortly(content: Mapping[str, Any]) -> str:
    """Writes the means of a few methods with half the width of their intervals, as the first page shows them."""
    rows, places = by_place(content), [("digits", task, optimizer) for optimizer, task in FIRST]
    cells = [[name, *(_mean(rows.get((*place, name))) for place in places)] for name in SHORT]
    heads = [tables.place_name(*place).replace(", digits", "") for place in places]
    return Table(("method", *heads), cells).markdown(NARROW) + "\n"


def _mean(row: Mapping[str, Any] | None) -> str:
    if not row:
        return NONE
    found = row["all"]
    return f"{100 * found['mean']:.1f} ± {50 * (found['high'] - found['low']):.1f}"


def _cell(row: Mapping[str, Any] | None, place: tuple[str, str, str]) -> str:
    if not row or "plain" not in row:
        return NONE
    shown = TITLES[place[1]]
    text = spell(row["plain"], shown.form, scale=shown.scale, sign="+")
    q = row["plain"]["q"]
    return f"**{text}**" if q is not None and q < 0.05 else text


def pages() -> dict[Path, str]:
    """Returns every page with its tables."""
    arena = read("arena")
    results = DOCS / "results-arena.md"
    found = {results: results.read_text()}
    for name in FILES:
        found[results] = marked(found[results], name, all_tables(read(name)), NAME)
    for path in (DOCS / "index.md", DOCS.parent / "README.md"):
        found[path] = marked(path.read_text(), "short", shortly(arena), NAME)
    for page, methods in PAGES.items():
        path = DOCS / "mechanisms" / f"{page}.md"
        found[path] = marked(path.read_text(), "arena", helped(arena, methods), NAME)
    return found


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
