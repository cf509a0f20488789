"""The figures of a sweep: curves with bands over seeds, and a map over two hyper-parameters."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from funcbio.sweeps.statistics import Run, extra, intervals, require_one_of, runs, step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import ndarray


PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Of Okabe and Ito, which colour-blind readers can tell apart; the yellow, pale on white, comes last."""

THIN = 20
"""Up to so many members, each has a line of its own."""

DECADES = 3
"""Positive values that span more powers of ten are drawn on a log scale."""


class Outcome(Protocol):
    """What a figure is drawn of; a ``SweepResult`` is one."""

    table: dict[str, list[Any]]
    hyper: tuple[str, ...]
    members: int


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
    figure = _figure(figsize=(10, 4.5))
    axes = figure.subplots()
    for (label, group), color in zip(lines.items(), _colors(len(lines)), strict=True):
        _draw_line(axes, label, group, color, thin=result.members <= THIN)
    _scale(axes, sorted(set(result.table["step"])))
    axes.set(xlabel="step", ylabel=metric)
    axes.grid(alpha=0.2)
    heading = "mean and 95 % interval over seeds" + _averaged(result.hyper if by is None else [by], result)
    # Beside the axes it covers no line, however many there are.
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, title=heading, alignment="left")
    return figure


def heatmap(result: Outcome, metric: str, x: str, y: str, step: int | None = None) -> "Figure":
    """Draws the mean of a metric over a grid of two hyper-parameters, with the values in the cells.

    Means are over the finite values of all members of a cell; how many diverged stands below. A gray cell has
    no finite value; one that is empty too has no member.

    Args:
        result: What came out of the sweep.
        metric: The metric.
        x: The hyper-parameter to the right.
        y: Another one, upwards.
        step: The step; the last one if None.

    Returns:
        The figure; save it with ``savefig``.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no such metric, hyper-parameter or step, or x and y are the same.

    Example:
        >>> table = {"member": [0], "seed": [0], "lr": [0.1], "bio": [True], "step": [9], "loss": [0.5]}
        >>> heatmap(SweepResult(table, ["lr", "bio"], {}, {}), "loss", x="lr", y="bio").axes[0].texts[0].get_text()
        '0.500'
    """
    found = runs(result.table, result.hyper, metric)
    step = step_of(found, step)
    require_one_of("hyper-parameters", result.hyper, x=x)
    require_one_of("other hyper-parameters", [name for name in result.hyper if name != x], y=y)
    places = [result.hyper.index(name) for name in (x, y)]
    columns, rows = ([*_ordered(run.combination[place] for run in found)] for place in places)
    cells: dict[tuple[int, int], list[float]] = {}
    for run in found:
        at = rows.index(run.combination[places[1]]), columns.index(run.combination[places[0]])
        cells.setdefault(at, []).append(run.values[step])
    figure = _figure()
    axes = figure.subplots()
    widest = _draw_cells(axes, cells, (len(rows), len(columns)), f"mean {metric}")
    right, up = ([spell(value) for value in values] for values in (columns, rows))
    long = max(map(len, right)) > 12
    slanted: Any = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(range(len(right)), right, **slanted)
    axes.set_yticks(range(len(up)), up)
    axes.set(xlabel=x, ylabel=y)
    seeds = _count(len({run.seed for run in found}), "seed")
    figure.suptitle(f"{metric} at step {step}, mean over {seeds}" + _averaged((x, y), result))
    # Inches for what the cells, the labels, the bar and the heading need.
    cell = 0.09 * max(8, widest, 0 if long else max(map(len, right)))
    figure.set_size_inches(
        max(5.0, 2.0 + 0.08 * max(map(len, up)) + cell * len(right)),
        1.8 + 0.5 * len(up) + (0.045 * max(map(len, right)) if long else 0.0),
    )
    return figure


def spell(value: Any) -> str:
    """Writes the value of a hyper-parameter: as short as it can be, so 0.3 for 0.1 + 0.2."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _figure(**options: Any) -> "Figure":
    """A figure that no window manager knows of, and that a notebook shows all the same."""
    figure = extra("matplotlib.figure").Figure(layout="constrained", **options)
    vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure


def _png(figure: "Figure") -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _averaged(drawn: Sequence[str], result: Outcome) -> str:
    """Names the hyper-parameters that a figure does not tell apart, if there are any."""
    others = ", ".join(name for name in result.hyper if name not in drawn)
    return f",\naveraged over {others}" if others else ""


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Distinct values: numbers by size, others as they come."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(isinstance(value, int | float) for value in distinct) else distinct


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
    order = [(value,) for value in _ordered(key[0] for key in keys)] if by else dict.fromkeys(keys)
    groups = {key: [run for run, its in zip(found, keys, strict=True) if its == key] for key in order}
    return {_label(names, key, group): group for key, group in groups.items()}


def _label(names: Sequence[str], key: Sequence[Any], group: Sequence[Run]) -> str:
    seeds = _count(len({run.seed for run in group}), "seed")
    diverged = sum(not math.isfinite(run.values[max(run.values)]) for run in group)
    tail = f"{seeds}, {diverged} of {_count(len(group), 'member')} diverged" if diverged else seeds
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


def _draw_cells(axes: "Axes", cells: dict[tuple[int, int], list[float]], shape: tuple[int, int], name: str) -> int:
    """Draws the cells and what stands in them; returns the length of the longest line of that."""
    np = extra("numpy")
    grid, widest = np.full(shape, np.nan), 0
    for at, values in cells.items():
        finite = [value for value in values if math.isfinite(value)]
        grid[at] = math.fsum(finite) / len(finite) if finite else np.nan
    image: Any = axes.imshow(np.ma.masked_invalid(grid), cmap="viridis", origin="lower", aspect="auto")
    axes.set_facecolor("0.85")
    if np.isfinite(grid).any():
        bar: Any = axes.figure.colorbar(image, ax=axes, label=name)
        bar.formatter.set_useOffset(False)
    digits = _digits(grid[np.isfinite(grid)])
    for (row, column), values in cells.items():
        mean, diverged = grid[row, column], sum(not math.isfinite(value) for value in values)
        parts = [f"{mean:#.{digits}g}".rstrip(".")] if math.isfinite(mean) else []
        parts += [f"{diverged}/{len(values)} diverged"] if diverged else []
        # White on the dark half of the colours, black on the light one.
        color = "white" if math.isfinite(mean) and image.norm(mean) < 0.6 else "black"
        axes.text(column, row, "\n".join(parts), ha="center", va="center", fontsize=8, color=color)
        widest = max(widest, *map(len, parts))
    return widest


def _digits(values: "ndarray") -> int:
    """Three digits of the range of the values, so that cells of different colours show different numbers."""
    spread = values.max() - values.min() if values.size else 0.0
    common = math.floor(math.log10(abs(values).max() / spread)) if spread > 0.0 else 0
    return min(3 + max(0, common), 12)
