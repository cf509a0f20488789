"""Factors on gradients or updates, by what they depend on: the weight, or the activity of a unit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from funcbio._checks import require
from funcbio.plot._canvas import colors_of, figure_of
from funcbio.plot._given import array_of, arrays_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY = 2000
"""Points from which they are drawn small and pale, so that one sees where they are dense."""


def factors(
    by: Any, values: Mapping[str, Any] | Any, *, xlabel: str = "weight", ylabel: str = "factor on the gradient"
) -> "Figure":
    """Draws factors over what they depend on, a point for each.

    Args:
        by: What the factors depend on, such as the weights: a tensor, array or list.
        values: The factors, as many as ``by`` has numbers; or several of them by name, each in a colour of its own.
        xlabel: What ``by`` is.
        ylabel: What the factors are.

    Returns:
        The figure; its vertical axis begins at 0, or below if a factor is negative.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If a number is not finite, or there are more or fewer factors than numbers in ``by``.

    Example:
        >>> from funcbio import plot
        >>> weight = torch.linspace(-1.0, 1.0, 5)
        >>> values = {"one": 1.0 - 0.5 * weight.abs(), "other": torch.ones(5)}
        >>> figure = plot.factors(weight, values)
        >>> figure.axes[0].get_xlabel(), len(figure.axes[0].collections)
        ('weight', 2)
    """
    figure = figure_of("monitor", figsize=(6, 3))
    draw_factors(figure.subplots(), by, values, xlabel=xlabel, ylabel=ylabel)
    return figure


def draw_factors(
    axes: "Axes",
    by: Any,
    values: Mapping[str, Any] | Any,
    *,
    xlabel: str = "weight",
    ylabel: str = "factor on the gradient",
) -> None:
    """Draws the points into axes; more than one name gets a legend."""
    places = arrays_of("by", {"by": by})["by"]
    arrays = arrays_of("values", values if isinstance(values, Mapping) else {"values": array_of("values", values)})
    for (name, numbers), color in zip(arrays.items(), colors_of(len(arrays), "monitor"), strict=True):
        require(
            f"values[{name!r}]", numbers.size, f"{places.size} factors, one for each of by", numbers.size == places.size
        )
        style: Any = {"s": 1, "alpha": 0.3} if places.size >= MANY else {"s": 6}
        axes.scatter(places, numbers, color=color, label=name, rasterized=True, **style)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if min(map(min, arrays.values())) < 0.0 else 0.0)
    if len(arrays) > 1:
        axes.legend(frameon=False, markerscale=1 if places.size < MANY else 4)
