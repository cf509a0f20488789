"""A map of a layer's rate factors, with the crystallized weights marked."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from funcbio._checks import is_number, is_real, require, shown
from funcbio.plot._canvas import PALETTE, figure_of
from funcbio.plot._given import array_of, extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def crystallization_map(rate: Tensor, *, below: float = 0.5, title: str = "") -> "Figure":
    """Draws the rate factors of one layer as a map, with those that have crystallized in a colour of their own.

    Args:
        rate: Rate factors of one weight, two dimensions or more: a row of the map for each index of the first, its
            other dimensions side by side. Transpose those of a ConvTranspose for rows of post-synaptic units.
        below: Rate under which a weight counts as crystallized, as in ``funcbio.metrics``.
        title: Begins the heading; for instance the layer's name.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If ``rate`` has too few dimensions or no elements, or ``below`` is not over 0.

    Example:
        >>> from funcbio import plot
        >>> rate = torch.tensor([[0.1, 1.0], [0.9, 1.3]])
        >>> figure = plot.crystallization_map(rate, title="fc")
        >>> figure.axes[0].get_title(loc="left")
        'fc: 25.0 % of 4 weights crystallized'
    """
    if not (is_real(rate) and rate.ndim > 1 and rate.numel() > 0):
        raise ValueError(f"rate should be a tensor of rate factors, of two dimensions or more; found {shown(rate)}")
    require("below", below, "a number over 0", is_number(below) and below > 0)
    values = array_of("rate", rate.flatten(1))
    colors: Any = extra("matplotlib").colormaps["Blues"].with_extremes(under=PALETTE[1])
    figure = figure_of("monitor", figsize=(8, 4.2))
    axes = figure.subplots()
    top = max(float(values.max()), 1.05 * below)
    image = axes.imshow(values, cmap=colors, vmin=below, vmax=top, aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, extend="min", label="rate factor", pad=0.02)
    note = f"under {below:g}:\ncrystallized"
    bar.ax.text(0.5, -0.07, note, transform=bar.ax.transAxes, ha="center", va="top", fontsize=9)
    share = 100.0 * float((values < below).mean())
    heading = f"{share:.1f} % of {values.size:,} weights crystallized"
    axes.set_title(f"{title}: {heading}" if title else heading, loc="left", fontsize=10)
    axes.set_xlabel("pre-synaptic" if rate.ndim == 2 else "pre-synaptic, by place in the kernel")
    axes.set_ylabel("post-synaptic")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(extra("matplotlib.ticker").MaxNLocator(integer=True, min_n_ticks=1))
    return figure
