"""Runs the cells of a notebook in this process, and gives their outputs in the notebook's own format."""

import ast
import base64
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import BytesIO, StringIO
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

DPI = 80
COLORS = 128
"""Colours of a picture: with few of them lines and letters look the same, and the file is a third as large."""

Cell = dict[str, Any]


def run_cells(cells: list[Cell]) -> None:
    """Runs the cells of code in order, in an empty folder, and stores counts and outputs in them."""
    names: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    with in_empty_folder():
        for count, cell in enumerate(code, 1):
            cell["execution_count"], cell["outputs"] = count, [*outputs_of("".join(cell["source"]), names, count)]


@contextmanager
def in_empty_folder() -> Iterator[None]:
    """Changes to a folder that holds no results of an earlier run, and back."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def outputs_of(source: str, names: dict[str, Any], count: int) -> Iterator[Cell]:
    """Yields what a cell prints, then the value of an expression at its end."""
    printed = StringIO()
    with redirect_stdout(printed):
        value = run(source, names)
    lines = [line.rstrip() for line in printed.getvalue().rstrip().splitlines()]
    if lines:
        yield {"output_type": "stream", "name": "stdout", "text": split("\n".join(lines) + "\n")}
    if value is not None:
        result = {"output_type": "execute_result", "execution_count": count, "metadata": {}}
        yield result | {"data": picture_of(value) if isinstance(value, Figure) else {"text/plain": split(repr(value))}}


def run(source: str, names: dict[str, Any]) -> Any:
    """Runs a cell as a notebook does; returns the value of an expression at its end."""
    *others, last = ast.parse(source).body
    value = last.value if isinstance(last, ast.Expr) else None
    exec(compile(ast.Module(others if value else [*others, last], []), "<cell>", "exec"), names)
    return eval(compile(ast.Expression(value), "<cell>", "eval"), names) if value else None


def split(text: str) -> list[str]:
    """Splits text into lines that keep their ends, as notebooks store it."""
    return text.splitlines(keepends=True)


def picture_of(figure: Figure) -> Cell:
    """Returns a figure as a small picture, and in words."""
    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    image = Image.open(drawn).convert("RGB").quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return {"image/png": base64.b64encode(small.getvalue()).decode() + "\n", "text/plain": [described(figure)]}


def described(figure: Figure) -> str:
    """Describes a figure by the titles and labels of its axes."""
    parts = []
    for axis in figure.axes:
        labels = " by ".join(filter(None, (axis.get_ylabel(), axis.get_xlabel())))
        parts.append(": ".join(filter(None, (axis.get_title() or axis.get_title(loc="left"), labels))))
    return "; ".join(dict.fromkeys(filter(None, [*parts, figure.get_supxlabel()])))
