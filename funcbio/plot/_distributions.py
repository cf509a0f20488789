"""Distributions of named numbers: rate factors by their law, weights before and after."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from funcbio._checks import is_count, require
from funcbio.plot._canvas import colors_of, figure_of
from funcbio.plot._given import arrays_of, extra, extremes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Limits = tuple[float, float]

COLUMNS = 5
"""Most panels in a line."""


def distributions(
    values: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    bins: int = 60,
    panels: bool = False,
    xlabel: str = "",
    ylabel: str = "",
) -> "Figure":
    """Draws a histogram of the numbers of each name, all with the same bins.

    Args:
        values: Numbers by name: tensors, arrays or lists of any shape.
        limits: The smallest and the largest number drawn; those of all numbers if None.
        bins: Bins between the limits.
        panels: True draws each name in a panel of its own, and no counts; False draws all into one.
        xlabel: What the numbers are, with their unit.
        ylabel: What is counted, such as "weights".

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no numbers, one is not finite, or limits do not rise.

    Example:
        >>> from funcbio import plot
        >>> values = {"before": [0.0, 0.1], "after": [0.9, 1.0]}
        >>> figure = plot.distributions(values, xlabel="rate factor")
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['before', 'after']
    """
    arrays = arrays_of("values", values)
    columns = min(COLUMNS, len(arrays)) if panels else 1
    lines = -(-len(arrays) // columns) if panels else 1
    figure = figure_of("monitor", figsize=(max(5.5, 1.9 * columns), 1.4 + 1.7 * lines))
    grid: Any = figure.subplots(lines, columns, squeeze=False, sharex=True)
    if not panels:
        draw_distributions(grid[0, 0], arrays, limits=limits, bins=bins, xlabel=xlabel, ylabel=ylabel)
        return figure
    limits = limits or _limits_of(arrays)
    for axes in grid.flat[len(arrays) :]:
        axes.set_visible(False)
    for axes, (name, numbers) in zip(grid.flat, arrays.items(), strict=False):
        draw_distributions(axes, {name: numbers}, limits=limits, bins=bins)
        axes.set_title(name, fontsize=10)
        axes.set_yticks([])
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    return figure


def draw_distributions(
    axes: "Axes",
    values: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    bins: int = 60,
    xlabel: str = "",
    ylabel: str = "",
) -> None:
    """Draws the histograms into axes; more than one get a legend."""
    require("bins", bins, "an integer of 1 or more", is_count(bins))
    arrays = arrays_of("values", values)
    low, high = limits or _limits_of(arrays)
    require("limits", limits, "two rising numbers", low < high)
    edges = extra("numpy").linspace(low, high, bins + 1)
    for (name, numbers), color in zip(arrays.items(), colors_of(len(arrays), "monitor"), strict=True):
        axes.hist(numbers, edges, histtype="stepfilled", alpha=0.6, color=color, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(arrays) > 1:
        axes.legend(frameon=False)


def _limits_of(arrays: Mapping[str, Any]) -> Limits:
    """Returns the smallest and the largest number; a bin's width around a single one."""
    low, high = extremes(arrays)
    return (low, high) if low < high else (low - 0.5, high + 0.5)
