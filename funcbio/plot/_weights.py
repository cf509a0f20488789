"""Maps of weights: negative in one colour, positive in another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from funcbio._checks import is_number, is_real, require, shown
from funcbio.plot._canvas import figure_of
from funcbio.plot._given import array_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def weight_maps(weights: Mapping[str, Tensor], *, largest: float | None = None) -> "Figure":
    """Draws weights side by side as maps with one scale of colours: blue below zero, red above.

    Args:
        weights: Weights of two dimensions or more by name: a row of a map for each index of the first, the other
            dimensions side by side.
        largest: The magnitude of the strongest colour; that of the largest weight if None.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no weight, or one has too few dimensions or no elements.

    Example:
        >>> from funcbio import plot
        >>> before = torch.randn(3, 4)
        >>> figure = plot.weight_maps({"before": before, "after": before.abs()})
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['before', 'after']
    """
    good = isinstance(weights, Mapping) and len(weights) > 0
    require("weights", weights, "a mapping of names to weights", good)
    for name, weight in weights.items():
        if not (is_real(weight) and weight.ndim > 1 and weight.numel() > 0):
            should = "a tensor of weights, of two dimensions or more"
            raise ValueError(f"weights[{name!r}] should be {should}; found {shown(weight)}")
    arrays = {name: array_of(name, weight.flatten(1)) for name, weight in weights.items()}
    require("largest", largest, "a number over 0, or None", largest is None or (is_number(largest) and largest > 0))
    top = largest or max(abs(array).max() for array in arrays.values()) or 1.0
    figure = figure_of("monitor", figsize=(1.2 + 2.4 * len(arrays), 2.6))
    panels: Any = figure.subplots(1, len(arrays), sharey=True, squeeze=False)[0]
    style: Any = {"cmap": "RdBu_r", "vmin": -top, "vmax": top, "aspect": "auto", "interpolation": "nearest"}
    images = [axes.imshow(array, **style) for axes, array in zip(panels, arrays.values(), strict=True)]
    for axes, name in zip(panels, arrays, strict=True):
        axes.set(title=name, xlabel="pre-synaptic")
    panels[0].set_ylabel("post-synaptic")
    figure.colorbar(images[0], ax=panels, label="weight", pad=0.02)
    return figure
