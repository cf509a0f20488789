"""A map over two hyper-parameters."""

import math
from typing import TYPE_CHECKING, Any

from funcbio._seeds import extra, require_one_of, resolve_step, runs
from funcbio.plot._canvas import count, figure_of, spell
from funcbio.plot._sweep_outcome import Outcome, averaged, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import ndarray


def heatmap(result: Outcome, metric: str, x: str, y: str, step: int | None = None) -> "Figure":
    """Draws the mean of a metric over a grid of two hyper-parameters, with the values in the cells.

    Means are over the finite values of all members of a cell; how many diverged stands below. A gray cell has
    no finite value; one that is empty too has no member.

    Args:
        result: The result of a sweep.
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
        >>> table = {"member": [0], "seed": [0], "lr": [0.1], "bio": [True]}
        >>> table |= {"step": [9], "loss": [0.5]}
        >>> result = SweepResult(table, ["lr", "bio"], {}, {})
        >>> heatmap(result, "loss", x="lr", y="bio").axes[0].texts[0].get_text()
        '0.500'
    """
    members = runs(result.table, result.hyper, metric)
    step = resolve_step(members, step)
    require_one_of("hyper-parameters", result.hyper, x=x)
    require_one_of("other hyper-parameters", [name for name in result.hyper if name != x], y=y)
    places = [result.hyper.index(name) for name in (x, y)]
    columns, rows = ([*ordered(run.combination[place] for run in members)] for place in places)
    cells: dict[tuple[int, int], list[float]] = {}
    for run in members:
        at = rows.index(run.combination[places[1]]), columns.index(run.combination[places[0]])
        cells.setdefault(at, []).append(run.values[step])
    figure = figure_of("sweep")
    axes = figure.subplots()
    widest = _draw_cells(axes, cells, (len(rows), len(columns)), f"mean {metric}")
    right, up = ([spell(value) for value in values] for values in (columns, rows))
    long = max(map(len, right)) > 12
    slanted: Any = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(range(len(right)), right, **slanted)
    axes.set_yticks(range(len(up)), up)
    axes.set(xlabel=x, ylabel=y)
    seeds = count(len({run.seed for run in members}), "seed")
    figure.suptitle(f"{metric} at step {step}, mean over {seeds}" + averaged((x, y), result))
    # Inches for what the cells, the labels, the bar and the heading need.
    cell = 0.09 * max(8, widest, 0 if long else max(map(len, right)))
    figure.set_size_inches(
        max(5.0, 2.0 + 0.08 * max(map(len, up)) + cell * len(right)),
        1.8 + 0.5 * len(up) + (0.045 * max(map(len, right)) if long else 0.0),
    )
    return figure


def _draw_cells(axes: "Axes", cells: dict[tuple[int, int], list[float]], shape: tuple[int, int], name: str) -> int:
    """Draws the cells and their text; returns the length of its longest line."""
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
    """Counts the digits that show three of the values' range: cells of different colours show different numbers."""
    spread = values.max() - values.min() if values.size else 0.0
    common = math.floor(math.log10(abs(values).max() / spread)) if spread > 0.0 else 0
    return min(3 + max(0, common), 12)
