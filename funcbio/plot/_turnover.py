"""Turnover: the share of weights replaced, and the age of the others."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from funcbio._checks import require
from funcbio.plot._canvas import PALETTE, figure_of, tick_steps
from funcbio.plot._ends import End, end_of, label_ends
from funcbio.plot._given import steps_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {"replaced": ("weights replaced, %", 100.0), "age_mean": ("mean age, steps", 1.0)}
WHOLE = "all"


def turnover(history: Sequence[Mapping[str, Any]], steps: Sequence[float] | None = None) -> "Figure":
    """Draws the share of weights replaced and their mean age over the steps, for every layer and the whole model.

    Args:
        history: What ``funcbio.metrics`` returned at each step; with "replaced", "age_mean" or both.
        steps: The steps, rising; from 0 if None.

    Returns:
        The figure, with a panel for each of the two that there is. More layers than colours are all gray.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is nothing to draw, or steps do not fit.

    Example:
        >>> from funcbio import plot
        >>> history = [
        ...     {"fc.weight": {"replaced": share}, "all": {"replaced": share}}
        ...     for share in (0.1, 0.3)
        ... ]
        >>> figure = plot.turnover(history, steps=[0, 50])
        >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
        [[10.0, 30.0], [10.0, 30.0]]
    """
    should = "a sequence of what funcbio.metrics returns, one for each step"
    sequence = isinstance(history, Sequence) and all(isinstance(metrics, Mapping) for metrics in history)
    require("history", history, should, sequence and len(history) > 0)
    entries = [name for name in PANELS if any(name in metrics.get(WHOLE, {}) for metrics in history)]
    measured = sorted({name for metrics in history for name in metrics.get(WHOLE, {})})
    require("history", measured, "metrics with 'replaced' or 'age_mean' of the whole model", bool(entries))
    places = steps_of(steps, len(history))
    figure = figure_of("monitor", figsize=(8, 0.6 + 2.8 * len(entries)))
    panels = figure.subplots(len(entries), 1, sharex=True, squeeze=False)[:, 0]
    for axes, entry in zip(panels, entries, strict=True):
        label_ends(axes, _draw(axes, history, places, entry))
    panels[-1].set_xlabel("step")
    tick_steps(panels[-1], places, "monitor")
    figure.align_ylabels()
    return figure


def _draw(axes: "Axes", history: Sequence[Mapping[str, Any]], steps: Sequence[float], entry: str) -> list[End]:
    """Draws one entry of all layers, then of the whole model, on top; returns the ends of the lines."""
    label, unit = PANELS[entry]
    names = [name for name in history[-1] if name != WHOLE and entry in history[-1][name]]
    coloured = len(names) < len(PALETTE) - 1  # Black is the whole model's, and yellow is pale.
    ends = []
    for index, name in enumerate([*names, WHOLE]):
        values = [unit * float(metrics.get(name, {}).get(entry, "nan")) for metrics in history]
        bold, color = name == WHOLE, PALETTE[index] if coloured else "0.7"
        color = "black" if bold else color
        axes.plot(steps, values, color=color, linewidth=2.2 if bold else 1.2, label=name)
        if bold or coloured:
            ends.append(end_of(values, "whole model" if bold else name, color))
    if not coloured:
        axes.set_title(f"gray: each of {len(names)} layers", loc="left", fontsize=10, color="0.4")
    axes.set(ylabel=label)
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.2)
    return ends
