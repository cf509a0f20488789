"""The figure of the overview of results: every difference from plain training, with its interval."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from results_table import ROWS, Column, Columns, accuracy, beyond

from funcbio.plot._canvas import PALETTE, figure_of

BLUE, RED, GREEN, PINK = PALETTE[:4]
SHOWN = ROWS[:-1]
"""The rows of the tables; the last one is a comparison for a single column."""
TITLES = {"for comparison: L2 to the start": "L2 to the start alone"}


class Panel(NamedTuple):
    """Describes one of the figure's parts: its columns, their colours, and where there is no difference."""

    title: str
    unit: str
    columns: Columns
    colors: tuple[str, ...]
    neutral: float = 0.0
    legend: str = "lower left"


def panels() -> list[Panel]:
    """Returns the parts of the figure, from the left."""
    once, then = accuracy(), beyond()
    alone = {name: once[name] for name in ("alone, SGD", "alone, Adam", "the paper's rules, tuned")}
    late = {name.removeprefix("late tasks, "): then[name] for name in ("late tasks, permuted", "late tasks, shuffled")}
    return [
        Panel("One task", "accuracy, points\n(right: better)", alone, (BLUE, RED, PINK)),
        Panel("Late of 200 tasks", "accuracy, points\n(right: better)", late, (BLUE, GREEN), legend="center right"),
        Panel("Sharpness", "times plain\n(left: flatter)", {"": then["sharpness, times plain"]}, (BLUE,), 1.0),
        Panel("Images leaked", "quality, dB\n(left: hides more)", {"": then["attacked images, dB"]}, (BLUE,)),
    ]


def numbers() -> Iterator[tuple[str, str, str, dict[str, float]]]:
    """Yields panel, column, row and number of everything that is drawn."""
    for panel in panels():
        for name, column in panel.columns.items():
            yield from ((panel.title, name, row, column.number(row)) for row in SHOWN if row in column.names)


def describe() -> str:
    """The drawing in words, which its file holds: so a test sees whether it is up to date."""
    return "; ".join(
        f"{panel}, {column}, {row}: {found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
        for panel, column, row, found in numbers()
    )


def draw_column(axis: Any, column: Column, color: str, label: str, shift: float) -> None:
    """Draws a mean and its interval in every row that a column has."""
    for place, row in enumerate(SHOWN):
        if row in column.names:
            found = column.number(row)
            axis.plot([found["low"], found["high"]], [place + shift] * 2, color=color, linewidth=2)
            axis.plot(found["mean"], place + shift, "o", color=color, markersize=5, label=label)
            label = ""  # One entry in the legend for all rows.


def draw() -> Any:
    """Panels side by side, with the rows of the tables."""
    found = panels()
    figure = figure_of("experiments", figsize=(10.4, 5.2))
    axes = figure.subplots(1, len(found), sharey=True, width_ratios=(3, 3, 1.6, 1.8))
    for axis, panel in zip(axes, found, strict=True):
        axis.axvline(panel.neutral, color="#999999", linewidth=1)
        count = len(panel.columns)
        for index, ((name, column), color) in enumerate(zip(panel.columns.items(), panel.colors, strict=True)):
            draw_column(axis, column, color, name, 0.22 * (index - (count - 1) / 2))
        axis.set(title=panel.title, xlabel=panel.unit)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        if count > 1:
            axis.legend(frameon=False, loc=panel.legend, fontsize=9)
    axes[0].set_yticks(range(len(SHOWN)), [TITLES.get(row, row) for row in SHOWN])
    axes[0].set_ylim(len(SHOWN) - 0.5, -0.5)
    return figure
