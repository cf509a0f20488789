"""The figures of the experiment, from its file of results."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

from funcbio.experiments.frame.figures import draw_intervals
from funcbio.experiments.frame.files import UNDATED, save_figure
from funcbio.experiments.frame.intervals import interval, over
from funcbio.experiments.inversion.cells import OTHER, RAW, REFERENCE, SCALED, UNDONE
from funcbio.experiments.inversion.metrics import METRICS
from funcbio.experiments.inversion.victims import VICTIMS
from funcbio.plot._canvas import PALETTE, count, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]

SHORT = {RAW: "", SCALED: ", x factors", UNDONE: ", factors known", OTHER: ", other image's"}
STYLE: Any = {"svg.hashsalt": "inversion", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def all_of(results: Row) -> "dict[str, Figure]":
    """Draws all figures; returns them by name."""
    with mpl.rc_context(STYLE):
        return {"psnr": dots(results, "psnr"), "recovered": dots(results, "recovered"), "images": pictures(results)}


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as SVG: the same numbers give the same bytes."""
    with mpl.rc_context(STYLE):
        save_figure(path, figure, **UNDATED)


def label(row: Row) -> str:
    """Names in a few words the attacked network, and the leak."""
    return row["victim"] + SHORT.get(row["leak"], "")


def _labels(rows: list[Row]) -> list[str]:
    """Returns all labels in the order of the networks; sorting leaves leaks in theirs."""
    attacked = [row for row in rows if row["epochs"] is not None]
    return list(dict.fromkeys(map(label, sorted(attacked, key=lambda row: list(VICTIMS).index(row["victim"])))))


def dots(results: Row, metric: str) -> "Figure":
    """Draws a metric of every cell: a panel for each time, a line for each cell, a colour for each size of batches."""
    epochs = sorted({row["epochs"] for row in results["rows"] if row["epochs"] is not None})
    sizes = sorted({row["batch"] for row in results["rows"]})
    names = _labels(results["rows"])
    figure = figure_of("experiments", figsize=(2.0 + 2.9 * len(epochs), 1.4 + 0.36 * (len(names) + 1)))
    panels: Any = figure.subplots(1, len(epochs), sharex=True, sharey=True, squeeze=False)
    for axes, epoch in zip(panels[0], epochs, strict=True):
        for number, size in enumerate(sizes):
            rows = [row for row in results["rows"] if row["batch"] == size and row["epochs"] in (epoch, None)]
            shift = 0.17 * (number - (len(sizes) - 1) / 2)
            _draw_dots(axes, rows, metric, [*names, REFERENCE], shift, PALETTE[number], f"{size}")
        axes.set_title(_when(epoch), fontsize=10)
        axes.set_xlabel(METRICS[metric])
        axes.grid(axis="x", alpha=0.3)
    panels[0, 0].set_yticks(range(len(names) + 1), [*names, REFERENCE])
    panels[0, 0].invert_yaxis()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    title = f"images behind one gradient (mean, {over(len(results['seeds']))[1:-1]})"
    figure.legend(handles, labels, title=title, loc="outside upper center", ncols=len(sizes), frameon=False)
    return figure


def _draw_dots(
    axes: "Axes", rows: list[Row], metric: str, names: list[str], shift: float, color: str, name: str
) -> None:
    intervals = [interval(row[metric]) for row in rows]
    places = [names.index(REFERENCE if row["epochs"] is None else label(row)) + shift for row in rows]
    draw_intervals(axes, intervals, places, markersize=3.5, linewidth=1.2, color=color, label=name)


def pictures(results: Row) -> "Figure":
    """Draws the images of the first seed and every attack's reconstructions: before training, and after."""
    rows = [row for row in results["rows"] if "shown" in row]
    guess = next(row for row in rows if row["epochs"] is None)
    epochs = sorted({row["epochs"] for row in rows if row["epochs"] is not None})
    epochs = list(dict.fromkeys([epochs[0], epochs[-1]]))
    names = _labels(rows)
    lines = {"original": [guess["original"]] * len(epochs)}
    for name in names:
        lines[name] = [next(r["shown"] for r in rows if (label(r), r["epochs"]) == (name, epoch)) for epoch in epochs]
    lines[REFERENCE] = [guess["shown"]] * len(epochs)
    read = {name: [_read(images, results["shape"]) for images in blocks] for name, blocks in lines.items()}
    return _sheet(read, [_when(epoch) for epoch in epochs])


def _when(epochs: int) -> str:
    return f"after {count(epochs, 'epoch')}" if epochs else "untrained"


def _read(images: list[str], shape: list[int]) -> np.ndarray:
    return np.array([np.frombuffer(bytes.fromhex(text), np.uint8).reshape(shape) for text in images])


def _sheet(lines: dict[str, list[np.ndarray]], titles: list[str]) -> "Figure":
    """Lays pictures out: a line of them for each name, a block for each title."""
    width = len(titles) * (len(next(iter(lines.values()))[0]) + 0.5)
    figure = figure_of("experiments", figsize=(2.2 + 0.62 * width, 0.3 + 0.62 * len(lines)))
    panels: Any = figure.subplots(len(lines), len(titles), squeeze=False)
    for line, (name, blocks) in zip(panels, lines.items(), strict=True):
        for axes, block in zip(line, blocks, strict=True):
            axes.imshow(_strip(block), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    return figure


def _strip(images: np.ndarray) -> np.ndarray:
    """Lays images side by side, with a grey line between: shape ``(height, width)``, or with colours behind."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=60 if images.shape[1] == 1 else 255)
    return np.concatenate(list(padded), axis=-1).transpose(1, 2, 0).squeeze()
