"""Learning curves: means over seeds with their intervals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from funcbio._checks import require
from funcbio._seeds import intervals
from funcbio.plot._canvas import colors_of, count, draw_mean, figure_of, fit_scales
from funcbio.plot._ends import end_of, label_ends
from funcbio.plot._given import array_of, steps_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy import ndarray


def learning_curves(
    curves: Mapping[str, Any], steps: Sequence[float] | None = None, *, xlabel: str = "step", ylabel: str = ""
) -> "Figure":
    """Draws the mean over seeds of every curve, with its 95 % bootstrap interval.

    Values that are not finite are left out. A curve of one seed has no interval.

    Args:
        curves: Values by name: tensors, arrays or lists of shape ``(seeds, steps)``, or ``(steps,)`` for one seed.
        steps: The steps, rising; from 0 if None.
        xlabel: What the steps are.
        ylabel: What the values are, with their unit.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib or scipy is missing.
        ValueError: If there is no curve, one has another number of steps, or steps do not rise.

    Example:
        >>> from funcbio import plot
        >>> losses = {"plain": [[3.0, 2.0], [3.0, 1.0]], "bio": [[3.0, 0.5]]}
        >>> figure = plot.learning_curves(losses, ylabel="loss")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['bio (1 seed)', 'plain (2 seeds)']
    """
    require("curves", curves, "a mapping with at least one curve", isinstance(curves, Mapping) and len(curves) > 0)
    arrays = {name: _per_seed(f"curves[{name!r}]", values) for name, values in curves.items()}
    width = next(iter(arrays.values())).shape[1]
    for name, values in arrays.items():
        require(f"curves[{name!r}]", values.shape, f"of shape (seeds, {width}), as the first", values.shape[1] == width)
    places, ends = steps_of(steps, width), []
    figure = figure_of("monitor", figsize=(8, 4.2))
    axes = figure.subplots()
    for (name, values), color in zip(arrays.items(), colors_of(len(arrays), "monitor"), strict=True):
        interval, label = intervals(values), f"{name} ({count(len(values), 'seed')})"
        draw_mean(axes, places, interval, label, color)
        ends.append(end_of(interval[0], label, color))
    fit_scales(axes, places, "monitor")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title("mean and 95 % interval over seeds", loc="left", fontsize=10)
    axes.grid(alpha=0.2)
    label_ends(axes, ends)
    return figure


def _per_seed(name: str, values: Any) -> "ndarray":
    """Returns values as an array of shape ``(seeds, steps)``."""
    array = array_of(name, values)
    require(name, values, "numbers of shape (seeds, steps) or (steps,)", array.ndim in (1, 2) and array.size > 0)
    return array[None] if array.ndim == 1 else array
