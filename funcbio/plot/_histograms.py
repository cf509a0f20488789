"""Histograms of the rate factors, over time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import optree
from torch import Tensor

from funcbio._checks import is_count, require
from funcbio.base import Tree
from funcbio.plot._canvas import PALETTE, figure_of, tick_steps
from funcbio.plot._ends import End, label_ends
from funcbio.plot._given import array_of, extra, steps_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy import ndarray

LINES = {0.95: "95 % of rates below", 0.5: "median", 0.05: "5 % of rates below"}


def rate_histograms(rates: Sequence[Tree], steps: Sequence[float] | None = None, *, bins: int = 60) -> "Figure":
    """Draws a histogram of all rate factors for every step, side by side as columns of colour.

    Args:
        rates: Rate factors at each step: tensors, or trees of which leaves of no dimensions are left out, such as
            ``state.rate``. Those of a converted model change in place: keep copies.
        steps: The steps, rising; from 0 if None.
        bins: Bins from 0 to the largest rate.

    Returns:
        The figure; its colours are shares of the weights on a log scale, lines show the median and the middle 90 %.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no rates at some step, one is negative or not finite, or steps do not fit.

    Example:
        >>> from funcbio import plot
        >>> rates = [torch.tensor([1.0, 1.0, 1.2]), torch.tensor([0.6, 1.0, 1.2])]
        >>> figure = plot.rate_histograms(rates)
        >>> [
        ...     line.get_ydata().round(2).tolist()
        ...     for line in figure.axes[0].lines
        ...     if line.get_label() == "median"
        ... ]
        [[1.0, 1.0]]
    """
    require("bins", bins, "an integer of 1 or more", is_count(bins))
    sequence = isinstance(rates, Sequence) and len(rates) > 0
    require("rates", rates, "a sequence of trees of rate factors, one for each step", sequence)
    np, columns = extra("numpy"), [_flat(tree) for tree in rates]
    for column in columns:
        good = column.size > 0 and bool(np.isfinite(column).all()) and column.min() >= 0.0
        require("rates", column, "one or more finite numbers of 0 or more at each step", good)
    places = np.asarray(steps_of(steps, len(columns)), dtype=float)
    edges = np.linspace(0.0, max(max(column.max() for column in columns), 1.0) * 1.02, bins + 1)
    shares = np.stack([np.histogram(column, bins=edges)[0] / column.size for column in columns], axis=1)
    figure = figure_of("monitor", figsize=(8, 4.2))
    axes = figure.subplots()
    norm = extra("matplotlib.colors").LogNorm(shares[shares > 0].min(), 1.0)
    mesh = axes.pcolormesh(_between(places), edges, np.ma.masked_equal(shares, 0.0), norm=norm, cmap="Blues")
    ends = []
    for level, label in LINES.items():
        values = np.array([np.quantile(column, level) for column in columns])
        style: Any = {"linewidth": 2.0} if level == 0.5 else {"linewidth": 1.2, "linestyle": "--"}
        axes.plot(places, values, color=PALETTE[1], label=label, marker="." if len(places) < 20 else "", **style)
        ends.append(End(float(values[-1]), label, PALETTE[1]))
    axes.set(xlabel="step", ylabel="rate factor")
    axes.set_ylim(0.0, edges[-1])
    tick_steps(axes, places, "monitor")
    label_ends(axes, ends)
    figure.colorbar(mesh, ax=axes, label="share of weights in a bin", pad=0.02)
    return figure


def _flat(tree: Tree) -> "ndarray":
    leaves = [
        array_of("rates", leaf).ravel()
        for leaf in optree.tree_leaves(tree)
        if isinstance(leaf, Tensor) and leaf.ndim > 0
    ]
    return extra("numpy").concatenate(leaves or [[]])


def _between(steps: "ndarray") -> "ndarray":
    """Returns edges of columns around the steps, half way to their neighbours."""
    np = extra("numpy")
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2.0
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])
