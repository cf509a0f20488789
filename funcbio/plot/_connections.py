"""A map of a sparse layer's connections: those that exist, and those that have gone and grown since."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from funcbio._checks import shown
from funcbio.plot._canvas import PALETTE, figure_of
from funcbio.plot._given import extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"missing": "white", "stays": "0.75", "dropped": PALETTE[1], "grown": PALETTE[0]}


def connection_map(mask: Tensor, before: Tensor | None = None, *, title: str = "") -> "Figure":
    """Draws which connections of one layer exist, and which were dropped and grown since an earlier mask.

    Args:
        mask: True where a connection exists, of two dimensions or more: a row of the map for each index of the first,
            its other dimensions side by side.
        before: The same mask earlier; None draws no changes.
        title: Begins the heading; for instance the layer's name.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If a mask has too few dimensions or no elements, or the two differ in shape.

    Example:
        >>> from funcbio import plot
        >>> before, mask = torch.tensor([[1, 1], [0, 0]]), torch.tensor([[1, 0], [0, 1]])
        >>> plot.connection_map(mask, before, title="fc").axes[0].get_title(loc="left")
        'fc: 50.0 % of 4 connections exist, 1 dropped, 1 grown'
    """
    before = mask if before is None else before
    for name, one in (("mask", mask), ("before", before)):
        if not (isinstance(one, Tensor) and one.ndim > 1 and one.numel() > 0 and one.shape == mask.shape):
            raise ValueError(f"{name} should be a mask of two dimensions or more, the same in both; found {shown(one)}")
    figure = figure_of("monitor", figsize=(8, 4.2))
    axes = figure.subplots()
    counts = draw_connections(axes, mask, before)
    exist = counts["stays"] + counts["grown"]
    heading = f"{100.0 * exist / mask.numel():.1f} % of {mask.numel():,} connections exist"
    if before is not mask:
        heading += f", {counts['dropped']:,} dropped, {counts['grown']:,} grown"
    axes.set_title(f"{title}: {heading}" if title else heading, loc="left", fontsize=10)
    if mask.ndim > 2:
        axes.set_xlabel("pre-synaptic, by place in the kernel")
    return figure


def draw_connections(axes: "Axes", mask: Tensor, before: Tensor) -> dict[str, int]:
    """Draws the map into axes, with a legend of the kinds that there are; returns how many there are of each."""
    new, old = (one.detach().cpu().flatten(1) > 0 for one in (mask, before))
    kinds = ((new & old).int() + 2 * (old & ~new).int() + 3 * (new & ~old).int()).numpy()
    colors: Any = extra("matplotlib.colors").ListedColormap([*KINDS.values()])
    axes.imshow(kinds, cmap=colors, vmin=-0.5, vmax=3.5, aspect="auto", interpolation="nearest")
    counts = {name: int((kinds == kind).sum()) for kind, name in enumerate(KINDS)}
    for name in [name for name, count in counts.items() if count and name != "missing"]:
        axes.scatter([], [], color=KINDS[name], marker="s", label=name)
    if axes.get_legend_handles_labels()[0]:
        place: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18)}
        axes.legend(**place, ncols=3, frameon=False, handletextpad=0.1)
    axes.set(xlabel="pre-synaptic", ylabel="post-synaptic")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(extra("matplotlib.ticker").MaxNLocator(integer=True, min_n_ticks=1))
    return counts
