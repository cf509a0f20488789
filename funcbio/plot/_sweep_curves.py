"""The figures of a sweep: curves with bands over seeds, here, and a map over two hyper-parameters."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from funcbio._seeds import Run, extra, intervals, require_one_of, runs
from funcbio.base import listed
from funcbio.plot._canvas import PALETTE, colors_of, count, draw_mean, figure_of, finite_or_nan, fit_scales, spell
from funcbio.plot._sweep_map import heatmap
from funcbio.plot._sweep_outcome import Outcome, averaged, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import ndarray


__all__ = ["PALETTE", "curves", "heatmap", "spell"]

THIN = 20
"""Most members for which each has a line of its own."""


def curves(result: Outcome, metric: str, by: str | None = None) -> "Figure":
    """Draws the mean of a metric over the steps, with its 95 % bootstrap band over seeds.

    Where a line gathers several members of one seed, as those of the hyper-parameters not named, they are averaged
    first: the band is over seeds, not over members. Values that are not finite are left out and counted in the legend.

    Args:
        result: The result of a sweep.
        metric: The metric.
        by: A hyper-parameter: one line for each of its values. If None, one for each combination of all.

    Returns:
        The figure; save it with ``savefig``.

    Raises:
        ImportError: If matplotlib or scipy is missing.
        ValueError: If there is no such metric or hyper-parameter, or more combinations than colours and no ``by``.

    Example:
        >>> table = {"member": [0, 0], "seed": [0, 0], "step": [1, 2], "loss": [0.5, 0.25]}
        >>> figure = curves(SweepResult(table, (), {}, {}), "loss")
        >>> [line.get_label() for line in figure.axes[0].lines[-1:]]
        ['1 seed']
    """
    lines = _lines(result, runs(result.table, result.hyper, metric), by)
    figure = figure_of("sweep", figsize=(10, 4.5))
    axes = figure.subplots()
    for (label, group), color in zip(lines.items(), colors_of(len(lines), "sweep"), strict=True):
        _draw_line(axes, label, group, color, thin=result.members <= THIN)
    fit_scales(axes, sorted(set(result.table["step"])), "sweep")
    axes.set(xlabel="step", ylabel=metric)
    axes.grid(alpha=0.2)
    heading = "mean and 95 % interval over seeds" + averaged(result.hyper if by is None else [by], result)
    # Beside the axes it covers no line, however many there are.
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, title=heading, alignment="left")
    return figure


def _lines(result: Outcome, members: Sequence[Run], by: str | None) -> dict[str, list[Run]]:
    """Groups the members by the label of their line."""
    names = result.hyper if by is None else (by,)
    if by is not None:
        require_one_of("hyper-parameters", result.hyper, by=by)
    places = [result.hyper.index(name) for name in names]
    keys = [tuple(run.combination[place] for place in places) for run in members]
    if by is None and len(set(keys)) > len(PALETTE):
        names = listed(map(repr, result.hyper))
        raise ValueError(f"by should be one of {names} to draw {len(set(keys))} combinations; found None")
    order = [(value,) for value in ordered(key[0] for key in keys)] if by else dict.fromkeys(keys)
    groups = {key: [run for run, its in zip(members, keys, strict=True) if its == key] for key in order}
    return {_label(names, key, group): group for key, group in groups.items()}


def _label(names: Sequence[str], key: Sequence[Any], group: Sequence[Run]) -> str:
    seeds = count(len({run.seed for run in group}), "seed")
    diverged = sum(not math.isfinite(run.values[max(run.values)]) for run in group)
    tail = f"{seeds}, {diverged} of {count(len(group), 'member')} diverged" if diverged else seeds
    head = ", ".join(f"{name} = {spell(value)}" for name, value in zip(names, key, strict=True))
    return f"{head} ({tail})" if head else tail


def _draw_line(axes: "Axes", label: str, group: Sequence[Run], color: Any, *, thin: bool) -> None:
    steps = sorted({step for run in group for step in run.values})
    if thin and len(group) > 1:
        for run in group:
            axes.plot(
                steps, [finite_or_nan(run.values.get(step)) for step in steps], color=color, linewidth=0.7, alpha=0.3
            )
    draw_mean(axes, steps, intervals(_per_seed(group, steps)), label, color)


def _per_seed(group: Sequence[Run], steps: Sequence[int]) -> "ndarray":
    """Averages the finite values of each seed: shape ``(seeds, steps)``."""
    np, seeds = extra("numpy"), list(dict.fromkeys(run.seed for run in group))
    total, count = np.zeros((len(seeds), len(steps))), np.zeros((len(seeds), len(steps)))
    for run in group:
        values = np.array([finite_or_nan(run.values.get(step)) for step in steps], dtype=float)
        finite, row = np.isfinite(values), seeds.index(run.seed)
        total[row, finite] += values[finite]
        count[row, finite] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
