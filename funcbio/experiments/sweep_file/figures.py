"""The figures that ``python -m funcbio sweep`` writes at the end, of all metrics below one another."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from funcbio import SweepResult
from funcbio.files._aside import write_aside
from funcbio.plot._sweep_curves import PALETTE

DPI = 150


def write_figures(result: SweepResult, folder: Path) -> None:
    """Draws the figures that the results allow: curves of several steps, a map of two numeric hyper-parameters."""
    if len(set(result.table["step"])) > 1:
        _write_figures(folder / "curves.png", result, lambda metric: result.curves(metric, _lines(result)))
    numeric = [name for name in result.hyper if _varies(result.table[name])]
    if len(numeric) == 2:
        x, y = numeric
        _write_figures(folder / "heatmap.png", result, lambda metric: result.heatmap(metric, x, y))


def _lines(result: SweepResult) -> str | None:
    """Returns the hyper-parameter with a line for each value; None if there are colours for all combinations."""
    combinations = set(zip(*(result.table[name] for name in result.hyper), strict=True))
    if len(combinations) <= len(PALETTE):
        return None
    return "mechanisms" if "mechanisms" in result.hyper else result.hyper[0]


def _varies(column: Sequence[Any]) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)
    return numbers and len(set(column)) > 1


def _write_figures(path: Path, result: SweepResult, draw: Callable[[str], Figure]) -> None:
    """Writes the figures of all metrics, below one another, as one picture."""
    pictures = [_picture(draw(metric)) for metric in result.metrics]
    width = max(picture.shape[1] for picture in pictures)
    wide = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    content = io.BytesIO()
    imsave(content, np.vstack(wide), format="png", dpi=DPI)
    write_aside(path, lambda file: file.write(content.getvalue()))


def _picture(figure: Figure) -> np.ndarray:
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
