"""Renders notebooks to pages: runs their cells in order, and writes Markdown and pictures.

``python docs/notebooks.py`` renders those that take a minute or so, ``python docs/notebooks.py 6-seeds`` the one named.
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

DOCS = Path(__file__).parent
NOTEBOOKS, PAGES, PICTURES = DOCS.parent / "notebooks", DOCS / "tutorials", DOCS / "assets" / "tutorials"
QUICK = ("1-quickstart", "2-mechanisms", "7-your-own-mechanism", "8-migrating")


def cells_of(name: str) -> list[tuple[str, str]]:
    """The kind and the text of every cell."""
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def run(source: str, names: dict[str, Any]) -> None:
    """Runs a cell as a notebook does: the value of an expression at its end is printed."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last is not None else None
    if value is not None:
        print(value)


def described() -> str:
    """What the current figure shows, in words: the titles and labels of its axes."""
    figure = plt.gcf()
    parts = []
    for axis in figure.axes:
        labels = " by ".join(filter(None, (axis.get_ylabel(), axis.get_xlabel())))
        parts.append(": ".join(filter(None, (axis.get_title(), labels))))
    return "; ".join(dict.fromkeys(filter(None, [*parts, figure.get_supxlabel()])))


def shown(name: str, source: str, names: dict[str, Any], number: int) -> str:
    """Runs a cell; returns what it printed and links to the pictures it drew."""
    printed, pictures = StringIO(), []

    def show() -> None:
        file = PICTURES / f"{name}-{number}-{len(pictures)}.png"
        plt.savefig(file, dpi=90)
        pictures.append(f"![{described()}](../assets/tutorials/{file.name})")
        plt.close()

    with redirect_stdout(printed), mock.patch.object(plt, "show", show):
        run(source, names)
    text = [f"```text\n{printed.getvalue().rstrip()}\n```"] if printed.getvalue().strip() else []
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
