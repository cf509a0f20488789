"""The figures of the grid, from its results: learning curves, and the effect of every cell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from funcbio.experiments.frame.figures import draw_intervals
from funcbio.experiments.grid.protocol import MECHANISMS, PROTOCOLS
from funcbio.experiments.grid.tables import headings
from funcbio.plot._canvas import PALETTE, draw_mean, figure_of

COLORS = dict(zip(MECHANISMS, ("#000000", PALETTE[2], PALETTE[0], PALETTE[1]), strict=True))
SHOWN = ("accuracy", "loss", "epochs", "gap", "area")
PROTOCOL_COLORS = {"paper": PALETTE[0], "tuned": PALETTE[1]}


def learning_curves(results: Mapping[str, Any]) -> Figure:
    """Draws the test accuracy of every cell over the epochs, a panel for each protocol."""
    figure = figure_of("experiments", figsize=(11, 8))
    there = [protocol for protocol in PROTOCOLS if protocol in results]
    panels: Any = figure.subplots(len(there), 2, sharey="row", sharex="row", squeeze=False)
    for axes_row, protocol in zip(panels, there, strict=True):
        result = results[protocol]
        for axes, gamma in zip(axes_row, (0, results["settings"]["gamma"]), strict=True):
            for row, line in zip(result["cells"], result["curves"]["cells"], strict=True):
                if row["gamma"] == gamma:
                    _draw_curve(axes, result["curves"]["epochs"], line, row["mechanisms"])
            axes.set_title(f"{protocol} protocol, {f'weights split by {gamma}' if gamma else 'weights not split'}")
            axes.set(xlabel="epoch", xscale="log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(alpha=0.2)
        axes_row[0].set_ylabel("test accuracy, %")
        ends = np.array([_numbers(line[end]) for line in result["curves"]["cells"] for end in ("mean", "low", "high")])
        axes_row[0].set_ylim(max(0.0, float(np.nanmin(ends)) - 3.0), min(101.0, float(np.nanmax(ends)) + 3.0))
    panels[0, 0].legend(loc="upper left", frameon=False, title="mean and 95 % interval over seeds")
    return figure


def _numbers(column: Sequence[float | None]) -> list[float]:
    """Returns the numbers of a file, in which None stands for nan."""
    return [math.nan if number is None else number for number in column]


def _draw_curve(axes: Axes, epochs: list[int], line: Mapping[str, list[float]], mechanisms: str) -> None:
    band = [_numbers(line[end]) for end in ("mean", "low", "high")]
    draw_mean(axes, epochs, band, mechanisms.replace("none", "no mechanism"), COLORS[mechanisms])


def effects(results: Mapping[str, Any]) -> Figure:
    """Draws what every cell changes against the plain one of the same seeds, a panel for each measure."""
    figure = figure_of("experiments", figsize=(12.5, 4.2))
    panels: Any = figure.subplots(1, len(SHOWN), sharey=True)
    names, there = headings(results["settings"]), [protocol for protocol in PROTOCOLS if protocol in results]
    for axes, name in zip(panels, SHOWN, strict=True):
        for offset, protocol in zip((0.16, -0.16), there, strict=False):
            _draw_effects(axes, results[protocol]["cells"][1:], name, protocol, offset)
        axes.axvline(0.0, color="0.4", linewidth=0.9)
        axes.set_xlabel(names[name].replace("%", "points") if name in ("accuracy", "area") else names[name])
        axes.grid(axis="x", alpha=0.2)
    labels = [row["cell"] for row in results[there[0]]["cells"][1:]]
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].invert_yaxis()
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw_effects(axes: Axes, rows: list[Mapping[str, Any]], name: str, protocol: str, offset: float) -> None:
    differences = [row[name]["difference"] for row in rows]
    places = [index - offset for index in range(len(rows))]
    style = {"color": PROTOCOL_COLORS[protocol], "label": f"{protocol}: cell minus plain"}
    draw_intervals(axes, differences, places, markersize=4, **style)
