"""Outcomes of many runs: how far apart they are by seed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from funcbio._checks import is_number, require
from funcbio.plot._canvas import colors_of, figure_of
from funcbio.plot._given import arrays_of, extra, extremes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy import ndarray

BINS = 40


def outcomes(
    values: Mapping[str, Any], *, step: float | None = None, xlabel: str = "", ylabel: str = "runs"
) -> "Figure":
    """Draws a histogram of one number for each run, for every kind of run, with a line at each mean.

    Args:
        values: The numbers of every kind by its name: tensors, arrays or lists, one entry for each seed.
        step: The distance of two numbers that can occur, such as 100 / 450 for an accuracy in per cent on 450 images:
            every possible number then has a bin of its own. If None, there are 40 bins.
        xlabel: What the numbers are, with their unit.
        ylabel: What is counted.

    Returns:
        The figure; its legend has mean and standard deviation of every kind.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no numbers, one is not finite, or ``step`` is not over 0.

    Example:
        >>> from funcbio import plot
        >>> figure = plot.outcomes({"plain": [95.0, 97.0], "bio": [96.0, 96.0]}, step=0.5)
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['plain: 96.00 ± 1.41', 'bio: 96.00 ± 0.00']
    """
    require("step", step, "a number over 0, or None", step is None or (is_number(step) and step > 0))
    arrays = arrays_of("values", values)
    figure = figure_of("monitor", figsize=(7, 3.5))
    axes, edges = figure.subplots(), _edges(arrays, step)
    for (name, numbers), color in zip(arrays.items(), colors_of(len(arrays), "monitor"), strict=True):
        label = f"{name}: {numbers.mean():.2f} ± {numbers.std(ddof=1) if numbers.size > 1 else 0.0:.2f}"
        axes.hist(numbers, edges.tolist(), alpha=0.5, color=color, label=label)
        axes.axvline(numbers.mean(), color=color)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, title="mean ± standard deviation")
    return figure


def _edges(arrays: Mapping[str, "ndarray"], step: float | None) -> "ndarray":
    """Returns the ends of the bins: half a step around every number that can occur."""
    np = extra("numpy")
    low, high = extremes(arrays)
    if step is None:
        return np.linspace(low, high, BINS + 1) if low < high else np.array([low - 0.5, high + 0.5])
    first, last = round(low / step), round(high / step)
    return (np.arange(first, last + 2) - 0.5) * step
