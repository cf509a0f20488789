"""Renders notebooks to pages: runs their cells in order, and writes Markdown and pictures.

``python docs/notebooks.py`` renders those that take a minute or so, ``python docs/notebooks.py 6-seeds`` the one named:
the experiments at full size need a machine with nothing else to do. They go on from what is in ``results``.
"""

import ast
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

DOCS = Path(__file__).parent
NOTEBOOKS, PAGES, PICTURES = DOCS.parent / "notebooks", DOCS / "tutorials", DOCS / "assets" / "tutorials"
PHOTOS = ("4-gradient-inversion-3-0",)
"""Pictures of images: a dark page does not turn their lightness around."""

QUICK = ("1-quickstart", "2-mechanisms", "7-your-own-mechanism", "8-migrating")


def cells_of(name: str) -> list[tuple[str, str]]:
    """The kind and the text of every cell."""
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def run(source: str, names: dict[str, Any]) -> Any:
    """Runs a cell as a notebook does; returns the value of an expression at its end."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last is not None else None


def described(figure: Figure) -> str:
    """What a figure shows, in words: the titles and labels of its axes."""
    parts = []
    for axis in figure.axes:
        labels = " by ".join(filter(None, (axis.get_ylabel(), axis.get_xlabel())))
        parts.append(": ".join(filter(None, (axis.get_title(), labels))))
    return "; ".join(dict.fromkeys(filter(None, [*parts, figure.get_supxlabel()])))


def shown(name: str, source: str, names: dict[str, Any], number: int) -> str:
    """Runs a cell; returns what it printed and links to the pictures it drew."""
    printed, pictures = StringIO(), []

    def show(figure: Figure | None = None) -> None:
        file = PICTURES / f"{name}-{number}-{len(pictures)}.png"
        drawn = figure or plt.gcf()
        drawn.savefig(file, dpi=90)
        kind = "{.photo}" if file.stem in PHOTOS else ""
        pictures.append(f"![{described(drawn)}](../assets/tutorials/{file.name}){kind}")
        plt.close()

    with redirect_stdout(printed), mock.patch.object(plt, "show", show):
        value = run(source, names)
        if isinstance(value, Figure):
            show(value)
        elif value is not None:
            print(value)
    lines = "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).rstrip()
    text = [f"```text\n{lines}\n```"] if lines else []
    return "\n\n".join([*text, *pictures])


def page_of(name: str) -> str:
    """The notebook as Markdown, with what its cells print and draw."""
    names: dict[str, Any] = {"__name__": "__main__"}
    parts = []
    for number, (kind, source) in enumerate(cells_of(name)):
        code = kind == "code"
        parts.append(f"```python\n{source}\n```" if code else source)
        parts.append(shown(name, source, names, number) if code else "")
    parts.append(f"Made from `notebooks/{name}.ipynb` by `python docs/notebooks.py {name}`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def main(names: list[str]) -> None:
    """Writes a page for every name."""
    for folder in (PAGES, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names or QUICK:
        for picture in PICTURES.glob(f"{name}-*.png"):
            picture.unlink()
        (PAGES / f"{name}.md").write_text(page_of(name))


if __name__ == "__main__":
    main(sys.argv[1:])
