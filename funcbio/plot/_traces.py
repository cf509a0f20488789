"""Numbers of one run over its steps, a panel for each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from funcbio._checks import require
from funcbio.plot._canvas import PALETTE, figure_of, tick_steps
from funcbio.plot._given import arrays_of, steps_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def traces(values: Mapping[str, Any], steps: Sequence[float] | None = None, *, xlabel: str = "step") -> "Figure":
    """Draws numbers of one run over its steps, each in a panel of its own, as they have scales of their own.

    Args:
        values: Numbers by name, one for each step: tensors, arrays or lists.
        steps: The steps, rising; from 0 if None.
        xlabel: What the steps are.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are no numbers, one is not finite, two names have different steps, or steps do not rise.

    Example:
        >>> from funcbio import plot
        >>> values = {"loss": [2.0, 1.0], "accuracy, %": [30.0, 60.0]}
        >>> figure = plot.traces(values, xlabel="epoch")
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['loss', 'accuracy, %']
    """
    arrays = arrays_of("values", values)
    length = len(next(iter(arrays.values())))
    for name, numbers in arrays.items():
        require(f"values[{name!r}]", len(numbers), f"{length} numbers, as many as the first", len(numbers) == length)
    places = steps_of(steps, length)
    figure = figure_of("monitor", figsize=(max(5.5, 3.6 * len(arrays)), 3))
    panels: Any = figure.subplots(1, len(arrays), squeeze=False)[0]
    for axes, (name, numbers) in zip(panels, arrays.items(), strict=True):
        axes.plot(places, numbers, color=PALETTE[0], marker="." if length < 20 else "")
        axes.set(xlabel=xlabel, ylabel=name)
        axes.grid(alpha=0.2)
        tick_steps(axes, places, "monitor")
    return figure
