"""Drawing parts that several figures share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from funcbio.experiments.frame.intervals import Interval, ends_of


def draw_intervals(
    axes: Axes, intervals: Sequence[Interval | Mapping[str, Any]], places: Sequence[float], **style: Any
) -> None:
    """Draws a dot at each mean and a horizontal line over its interval; nan and None leave a gap.

    Args:
        axes: The axes.
        intervals: The intervals, or their numbers by name.
        places: Vertical positions, one for each interval.
        **style: Options of ``errorbar``.
    """
    ends = np.array([ends_of(interval) for interval in intervals])
    axes.errorbar(ends[:, 0], places, xerr=np.abs(ends[:, 1:] - ends[:, :1]).T, fmt="o", **style)
