"""Shared parts of all figures: a blank figure, the colours, means with bands, scales, and how values are written."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from funcbio._optional import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Colours of Okabe and Ito, which colour-blind readers can tell apart; the yellow, pale on white, comes last."""

DECADES = 3
"""Positive values that span more powers of ten are drawn on a log scale."""


def figure_of(extra: str, **options: Any) -> "Figure":
    """Makes a figure that opens no window, but that a notebook shows.

    Args:
        extra: The extra of this library that the reader should install if matplotlib is missing.
        **options: Options of matplotlib's ``Figure``.
    """
    figure = import_extra("matplotlib.figure", extra).Figure(layout="constrained", **options)
    vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure


def _png(figure: "Figure") -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def spell(value: Any) -> str:
    """Writes a value: as short as it can be, so 0.3 for 0.1 + 0.2."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def count(number: int, noun: str) -> str:
    """Writes a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def finite_or_nan(value: float | None) -> float:
    """Returns a value, or nan for None and infinity, which would break the scale of the axis."""
    return value if value is not None and math.isfinite(value) else math.nan


def colors_of(number: int, extra: str) -> list[Any]:
    """Returns colours of the palette, or of different lightness if more are needed."""
    if number <= len(PALETTE):
        return list(PALETTE[:number])
    cividis = import_extra("matplotlib", extra).colormaps["cividis"]
    return [cividis(index / (number - 1)) for index in range(number)]


def draw_mean(axes: "Axes", steps: Sequence[Any], interval: Iterable[Any], label: str, color: Any) -> None:
    """Draws mean, low and high of every step as a line with its band."""
    mean, low, high = interval
    axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(steps, mean, color=color, label=label, linewidth=1.8, marker="." if len(steps) < 20 else "")


def fit_scales(axes: "Axes", steps: Sequence[Any], extra: str) -> None:
    """Sets a log scale for values that span more than ``DECADES`` powers of ten, and ticks at whole steps."""
    np = import_extra("numpy", extra)
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0.0 and values.max() > 10.0**DECADES * values.min():
        axes.set_yscale("log")
    if not values.size:
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", va="center")
    tick_steps(axes, steps, extra)


def tick_steps(axes: "Axes", steps: Sequence[Any], extra: str) -> None:
    """Puts ticks at whole numbers, and at the steps themselves where they are few."""
    axes.xaxis.set_major_locator(import_extra("matplotlib.ticker", extra).MaxNLocator(integer=True))
    if len(steps) <= 10:
        axes.set_xticks(steps)
