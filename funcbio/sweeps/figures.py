"""The figures of a sweep: curves with bands over seeds, here, and a map over two hyper-parameters."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from funcbio.sweeps._drawing import Outcome, averaged, count, figure_of, ordered, spell
from funcbio.sweeps._map import heatmap
from funcbio.sweeps.statistics import Run, extra, intervals, require_one_of, runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import ndarray


__all__ = ["PALETTE", "curves", "heatmap", "spell"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Of Okabe and Ito, which colour-blind readers can tell apart; the yellow, pale on white, comes last."""

THIN = 20
"""Up to so many members, each has a line of its own."""

DECADES = 3
"""Positive values that span more powers of ten are drawn on a log scale."""


def curves(result: Outcome, metric: str, by: str | None = None) -> "Figure":
    """Draws the mean of a metric over the steps, with its 95 % bootstrap band over seeds.

    Where a line gathers several members of one seed, as those of the hyper-parameters not named, they are averaged
    first: the band is over seeds, not over members. Values that are not finite are left out and counted in the legend.

    Args:
        result: What came out of the sweep.
        metric: The metric.
        by: A hyper-parameter: one line for each of its values. If None, one for each combination of all.

    Returns:
        The figure; save it with ``savefig``.

    Raises:
        ImportError: If matplotlib or scipy is missing.
        ValueError: If there is no such metric or hyper-parameter, or more combinations than colours and no ``by``.

    Example:
        >>> table = {"member": [0, 0], "seed": [0, 0], "step": [1, 2], "loss": [0.5, 0.25]}
        >>> [line.get_label() for line in curves(SweepResult(table, (), {}, {}), "loss").axes[0].lines[-1:]]
        ['1 seed']
    """
    lines = _lines(result, runs(result.table, result.hyper, metric), by)
    figure = figure_of(figsize=(10, 4.5))
    axes = figure.subplots()
    for (label, group), color in zip(lines.items(), _colors(len(lines)), strict=True):
        _draw_line(axes, label, group, color, thin=result.members <= THIN)
    _scale(axes, sorted(set(result.table["step"])))
    axes.set(xlabel="step", ylabel=metric)
    axes.grid(alpha=0.2)
    heading = "mean and 95 % interval over seeds" + averaged(result.hyper if by is None else [by], result)
    # Beside the axes it covers no line, however many there are.
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, title=heading, alignment="left")
    return figure


def _lines(result: Outcome, found: Sequence[Run], by: str | None) -> dict[str, list[Run]]:
    """The members of each line, by its label."""
    names = result.hyper if by is None else (by,)
    if by is not None:
        require_one_of("hyper-parameters", result.hyper, by=by)
    places = [result.hyper.index(name) for name in names]
    keys = [tuple(run.combination[place] for place in places) for run in found]
    if by is None and len(set(keys)) > len(PALETTE):
        there = ", ".join(map(repr, result.hyper))
        raise ValueError(f"by should be one of {there} to draw {len(set(keys))} combinations; found None")
    order = [(value,) for value in ordered(key[0] for key in keys)] if by else dict.fromkeys(keys)
    groups = {key: [run for run, its in zip(found, keys, strict=True) if its == key] for key in order}
    return {_label(names, key, group): group for key, group in groups.items()}


def _label(names: Sequence[str], key: Sequence[Any], group: Sequence[Run]) -> str:
    seeds = count(len({run.seed for run in group}), "seed")
    diverged = sum(not math.isfinite(run.values[max(run.values)]) for run in group)
    tail = f"{seeds}, {diverged} of {count(len(group), 'member')} diverged" if diverged else seeds
    head = ", ".join(f"{name} = {spell(value)}" for name, value in zip(names, key, strict=True))
    return f"{head} ({tail})" if head else tail


def _colors(count: int) -> list[Any]:
    """Told apart by the palette as long as it lasts, then by lightness."""
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    cividis = extra("matplotlib").colormaps["cividis"]
    return [cividis(index / (count - 1)) for index in range(count)]


def _draw_line(axes: "Axes", label: str, group: Sequence[Run], color: Any, *, thin: bool) -> None:
    steps = sorted({step for run in group for step in run.values})
    mean, low, high = intervals(_per_seed(group, steps))
    if thin and len(group) > 1:
        for run in group:
            axes.plot(steps, [_drawn(run.values.get(step)) for step in steps], color=color, linewidth=0.7, alpha=0.3)
    axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(steps, mean, color=color, label=label, linewidth=1.8, marker="." if len(steps) < 20 else "")


def _drawn(value: float | None) -> float:
    """Infinity would break the scale of the axis."""
    return value if value is not None and math.isfinite(value) else math.nan


def _per_seed(group: Sequence[Run], steps: Sequence[int]) -> "ndarray":
    """Means over the finite values of each seed: shape ``(seeds, steps)``."""
    np, seeds = extra("numpy"), list(dict.fromkeys(run.seed for run in group))
    total, count = np.zeros((len(seeds), len(steps))), np.zeros((len(seeds), len(steps)))
    for run in group:
        values = np.array([_drawn(run.values.get(step)) for step in steps], dtype=float)
        finite, row = np.isfinite(values), seeds.index(run.seed)
        total[row, finite] += values[finite]
        count[row, finite] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _scale(axes: "Axes", steps: Sequence[int]) -> None:
    """Makes the scale a log one where a linear one would flatten nearly all there is to see."""
    np = extra("numpy")
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0.0 and values.max() > 10.0**DECADES * values.min():
        axes.set_yscale("log")
    if not values.size:
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", va="center")
    axes.xaxis.set_major_locator(extra("matplotlib.ticker").MaxNLocator(integer=True))
    if len(steps) <= 10:
        axes.set_xticks(steps)
