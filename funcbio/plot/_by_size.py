"""Turnover by size: which share of the weights of each size was replaced."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from funcbio._checks import is_count, is_number, is_real, require, shown
from funcbio.plot._canvas import PALETTE, figure_of
from funcbio.plot._given import array_of, extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def turnover_by_size(
    weight: Tensor,
    replaced: Tensor,
    *,
    chance: Callable[[Any], Any] | None = None,
    largest: float = 1.0,
    bins: int = 20,
) -> "Figure":
    """Draws the share of weights replaced by their size, in standard deviations of the layer.

    Args:
        weight: The weights of one layer before they were replaced.
        replaced: True where a weight was replaced; of the shape of ``weight``.
        chance: A law to draw beside it: a function of a tensor of sizes that returns probabilities.
        largest: The largest size drawn.
        bins: Bins of size from 0 to the largest; those without weights are left out.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the shapes differ, all weights are equal, or ``largest`` is not over 0.

    Example:
        >>> from funcbio import plot
        >>> weight = torch.tensor([0.1, -0.1, 1.0, -1.0])
        >>> figure = plot.turnover_by_size(weight, weight.abs() < 0.5, largest=2.0, bins=2)
        >>> figure.axes[0].lines[0].get_ydata().tolist()
        [100.0, 0.0]
    """
    figure = figure_of("monitor", figsize=(5.5, 3))
    draw_turnover_by_size(figure.subplots(), weight, replaced, chance=chance, largest=largest, bins=bins)
    return figure


def draw_turnover_by_size(
    axes: "Axes",
    weight: Tensor,
    replaced: Tensor,
    *,
    chance: Callable[[Any], Any] | None = None,
    largest: float = 1.0,
    bins: int = 20,
) -> None:
    """Draws the shares, and the law if there is one, into axes."""
    np, spread = extra("numpy"), float(weight.double().std()) if is_real(weight) and weight.numel() > 1 else 0.0
    if not spread > 0.0:
        raise ValueError(f"weight should be a tensor of weights that differ; found {shown(weight)}")
    if not (isinstance(replaced, Tensor) and replaced.shape == weight.shape):
        raise ValueError(f"replaced should be a mask of shape {tuple(weight.shape)}; found {shown(replaced)}")
    require("largest", largest, "a number over 0", is_number(largest) and largest > 0)
    require("bins", bins, "an integer of 1 or more", is_count(bins))
    sizes, mask = array_of("weight", weight.abs()).ravel() / spread, array_of("replaced", replaced).ravel() > 0
    edges = np.linspace(0.0, largest, bins + 1)
    counts, gone = (np.histogram(part, edges)[0] for part in (sizes, sizes[mask]))
    middle = (edges[1:] + edges[:-1]) / 2.0
    if chance is not None:
        axes.plot(middle, 100.0 * array_of("chance", chance(torch.from_numpy(middle))), color=PALETTE[0], label="law")
    there = counts > 0
    axes.plot(middle[there], 100.0 * gone[there] / counts[there], "o", color=PALETTE[1], label="replaced")
    axes.set(xlabel="|weight| / standard deviation", ylabel="weights replaced, %")
    axes.set_ylim(bottom=0.0)
    if chance is not None:
        axes.legend(frameon=False)
