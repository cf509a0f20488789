"""Labels at the ends of lines, in place of a legend."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 9
"""Size of the letters, in points."""


class End(NamedTuple):
    """Holds where a line ends, in the data's units, and its label."""

    value: float
    label: str
    color: Any


def end_of(values: Sequence[float], label: str, color: Any) -> End:
    """Returns the end of a line: its last finite value."""
    finite = [float(value) for value in values if math.isfinite(value)]
    return End(finite[-1] if finite else math.nan, label, color)


def label_ends(axes: "Axes", ends: Sequence[End]) -> None:
    """Writes labels to the right of the axes, as near to their lines as they can stand without touching."""
    axes.autoscale_view()
    box, inches = axes.get_position(), axes.figure.get_figure(root=True).get_figheight()  # pyright: ignore[reportOptionalMemberAccess]
    gap = 1.3 * SIZE / 72.0 / (box.height * inches)
    ends = sorted(ends, key=lambda end: -math.inf if math.isnan(end.value) else end.value)
    places = spread([_height(axes, end.value) for end in ends], gap)
    for end, place in zip(ends, places, strict=True):
        axes.text(1.01, place, end.label, color=end.color, fontsize=SIZE, va="center", transform=axes.transAxes)


def _height(axes: "Axes", value: float) -> float:
    """Returns the height of a value, as a share of that of the axes."""
    if math.isnan(value):
        return 0.0
    display = axes.transData.transform((0.0, value))
    return float(axes.transAxes.inverted().transform(display)[1])


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Moves rising places apart to ``gap`` at least, and down again where they rose over 1.

    Example:
        >>> from funcbio.plot._ends import spread
        >>> spread([0.0, 0.0, 1.0], 0.25)
        [0.0, 0.25, 1.0]
        >>> spread([0.75, 1.0, 1.0], 0.25)
        [0.5, 0.75, 1.0]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    top = 1.0
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], top)
        top = moved[index] - gap
    return moved
