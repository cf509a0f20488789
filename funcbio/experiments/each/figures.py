"""The figure of the comparison, from its results."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from funcbio.experiments.each.protocol import OPTIMIZERS
from funcbio.experiments.each.tables import NAMES
from funcbio.experiments.frame.figures import draw_intervals
from funcbio.plot._canvas import PALETTE, figure_of


def figure(results: Mapping[str, Any]) -> Figure:
    """Draws what every mechanism changes against the plain network of the same seeds, for both optimizers."""
    chart = figure_of("experiments", figsize=(8, 4))
    axes: Any = chart.subplots()
    there = [optimizer for optimizer in OPTIMIZERS if optimizer in results]
    names = [row["mechanism"] for row in results[there[0]] if "difference" in row]
    for offset, color, optimizer in zip((-0.12, 0.12), PALETTE, there, strict=False):
        differences = [row["difference"] for row in results[optimizer] if "difference" in row]
        places = [index + offset for index in range(len(differences))]
        draw_intervals(axes, differences, places, markersize=4, color=color, label=NAMES[optimizer])
    axes.axvline(0.0, color="0.4", linewidth=0.9)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.2)
    axes.set_xlabel("test accuracy minus that of the plain network, points")
    axes.legend(frameon=False)
    return chart
