"""Figures of the results: every method's mean with its interval, and how some of them go on over the steps."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from funcbio.experiments.arena.methods import NORM_DECAY, PLAIN, named
from funcbio.experiments.arena.tables import place_name
from funcbio.experiments.arena.tasks import TITLES
from funcbio.experiments.frame.figures import draw_intervals
from funcbio.experiments.frame.intervals import interval
from funcbio.plot._canvas import PALETTE, figure_of

CURVES = 6
"""Most methods whose curves are drawn in one panel."""

KINDS = {"weights": PALETTE[1], "units": PALETTE[0], "": "#555555"}
"""Colours of methods by what they reset."""

SAID = {"weights": "resets weights", "units": "resets units", "": "resets nothing"}

WIDTH = 5.0
"""Width of a panel in inches: on a page two of them have letters that can be read."""

HEAD = 1.1
"""Height of title and axis of a panel in inches."""

SPACE = 0.12
"""Space above and below a panel in inches, so that a title is seen to belong to what is below it."""

SMOOTHED = 15
"""Blocks of steps that a curve shows at most."""


def every(content: Mapping[str, Any]) -> dict[str, Figure]:
    """Draws all figures of the content of a results file, by name."""
    places = [*dict.fromkeys((row["data"], row["task"], row["optimizer"]) for row in content["table"])]
    return {"arena-means": means(content["table"], places), "arena-steps": steps(content["runs"], places)}


def panels(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Makes a figure with a panel of each height in inches, two in a line, which is as high as the higher one."""
    columns = min(2, len(heights))
    lines = [max(heights[at : at + columns]) for at in range(0, len(heights), columns)]
    figure = figure_of("experiments", figsize=(WIDTH * columns, sum(lines)))
    engine: Any = figure.get_layout_engine()
    engine.set(h_pad=SPACE)
    grid: Any = figure.subplots(len(lines), columns, squeeze=False, gridspec_kw={"height_ratios": lines})
    axes = [*grid.flat]
    for unused in axes[len(heights) :]:
        unused.set_visible(False)
    return figure, axes[: len(heights)]


def means(table: Sequence[Mapping[str, Any]], places: Sequence[Any]) -> Figure:
    """Draws the mean over all steps of every method, the best on top; panels of many methods come first."""
    counts = {place: sum(_place(row) == place for row in table) for place in places}
    places = sorted(places, key=lambda place: -round(counts[place], -1))  # Roughly: so rows of tasks keep their order.
    figure, axes = panels([HEAD + 0.2 * counts[place] for place in places])
    for panel, place in zip(axes, places, strict=True):
        shown = TITLES[place[1]]
        rows = sorted(
            (row for row in table if _place(row) == place), key=lambda row: shown.sign * (row["all"]["mean"] or 0.0)
        )
        for at, row in enumerate(rows):
            ends = {end: np.nan if value is None else shown.scale * value for end, value in row["all"].items()}
            draw_intervals(panel, [ends], [at], color=KINDS[named(row["method"]).kind], markersize=4)
        panel.set_yticks(range(len(rows)), [row["method"] for row in rows], fontsize=8)
        for label in panel.get_yticklabels():
            label.set_fontweight("bold" if label.get_text() in (PLAIN, NORM_DECAY) else "normal")
        _finish(panel, place)
        panel.set_xlabel(shown.axis)
    handles = [Line2D([], [], marker="o", markersize=4, color=KINDS[kind], label=said) for kind, said in SAID.items()]
    axes[0].legend(handles=handles, fontsize=8, frameon=False, loc="lower right")
    return figure


def steps(runs: Sequence[Mapping[str, Any]], places: Sequence[Any]) -> Figure:
    """Draws how plain training, LayerNorm with decay and the best others go on over the steps."""
    figure, axes = panels([3.4] * len(places))
    for panel, place in zip(axes, places, strict=True):
        shown = TITLES[place[1]]
        here = {
            run["method"]: np.array(run["values"], dtype=float) * shown.scale for run in runs if _place(run) == place
        }
        ranked = sorted(here, key=lambda name: -shown.sign * np.nanmean(here[name]))
        baselines = [name for name in (PLAIN, NORM_DECAY) if name in here]
        others = [name for name in ranked if name not in baselines and named(name).newborn == "zero"]
        colors = {**dict(zip(others, PALETTE, strict=False)), PLAIN: "#000000", NORM_DECAY: "#888888"}
        for name in [*baselines, *others][:CURVES]:
            color = colors[name]
            ends = np.array([interval(column) for column in smoothed(here[name]).T.tolist()])
            x = np.arange(1, len(ends) + 1) / len(ends) * 100
            panel.fill_between(x, ends[:, 1], ends[:, 2], color=color, alpha=0.15, linewidth=0)
            panel.plot(x, ends[:, 0], color=color, label=name, linewidth=1.6)
        panel.legend(fontsize=8, framealpha=0.7, edgecolor="none")
        panel.set_xlabel("share of all steps, %")
        panel.set_ylabel(shown.axis)
        _finish(panel, place)
    return figure


def smoothed(values: np.ndarray) -> np.ndarray:
    """Averages neighbouring blocks of steps, shape ``(seeds, blocks)``, until there are few enough."""
    size = -(-values.shape[1] // SMOOTHED)
    starts = range(0, values.shape[1], size)
    return np.stack([values[:, at : at + size].mean(axis=1) for at in starts], axis=1)


def _place(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["data"], row["task"], row["optimizer"]


def _finish(axes: Axes, place: tuple[str, str, str]) -> None:
    axes.set_title(fill(place_name(*place), 32), fontsize=10)
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
