"""Figures of a results file: accuracy over tasks, and the inner state of the networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from funcbio.experiments.frame.intervals import interval
from funcbio.experiments.plasticity.methods import BENCHMARKS, METHODS, PLAIN, START
from funcbio.experiments.plasticity.tables import NAMES, TITLES
from funcbio.plot._canvas import PALETTE, figure_of

REMEDIES = ("L2", START, "shrink and perturb")
INKS = ("#000000", *PALETTE[:6], "#8C510A", "#7A3B9A", "#666666")
COLORS = dict(zip((method.name for method in METHODS), INKS, strict=True))
INSIDE = {"dormant": "dormant units, %", "weight_norm": "norm of the weights", "feature_rank": "rank of the features"}


GAP = 0.065
"""Least distance of two names, as a share of the axis."""


def tasks(content: dict[str, Any], optimizer: str) -> Figure:
    """Draws accuracy over tasks: a row for each benchmark; remedies left, biological mechanisms right."""
    benchmarks = benchmarks_of(content, optimizer)
    figure = figure_of("experiments", figsize=(13, 4.5 * len(benchmarks)))
    drawn: list[tuple[Axes, dict[str, float]]] = []
    panels: Any = figure.subplots(len(benchmarks), 2, sharex=True, sharey="row", squeeze=False)
    for line, benchmark in zip(panels, benchmarks, strict=True):
        runs = runs_of(content, benchmark, optimizer)
        for axes, biological in zip(line, (False, True), strict=True):
            both = (PLAIN, START)  # Every mechanism is added to one of these two.
            chosen = [run for run in runs if run["method"] in both or (run["method"] not in REMEDIES) == biological]
            drawn.append((axes, curves(axes, chosen, "accuracy", content["settings"], scale=100.0)))
            kind = "biological mechanisms" if biological else "known remedies"
            axes.set_title(f"{TITLES[benchmark]}, {NAMES[optimizer]}: {kind}", fontsize=10)
        line[0].set_ylabel("accuracy before learning, %")
    for axes in panels[-1]:
        axes.set_xlabel("task")
    for axes, ends in drawn:
        name_lines(axes, ends)
    return figure


def benchmarks_of(content: dict[str, Any], optimizer: str) -> list[str]:
    """Returns the rows of tasks of which there are runs with an optimizer."""
    return [benchmark for benchmark in BENCHMARKS if runs_of(content, benchmark, optimizer)]


def runs_of(content: dict[str, Any], benchmark: str, optimizer: str) -> list[dict[str, Any]]:
    """Returns the runs of a benchmark with an optimizer."""
    return [run for run in content["runs"] if (run["benchmark"], run["optimizer"]) == (benchmark, optimizer)]


def inside(content: dict[str, Any], optimizer: str) -> Figure:
    """Draws dormant units, weight norm and rank of the features over tasks."""
    benchmarks = benchmarks_of(content, optimizer)
    figure = figure_of("experiments", figsize=(6.5 * len(benchmarks), 10))
    drawn: list[tuple[Axes, dict[str, float]]] = []
    panels: Any = figure.subplots(len(INSIDE), len(benchmarks), sharex=True, sharey="row", squeeze=False)
    for column, benchmark in enumerate(benchmarks):
        runs = runs_of(content, benchmark, optimizer)
        for axes, name in zip(panels[:, column], INSIDE, strict=True):
            scale = 100.0 if name == "dormant" else 1.0
            drawn.append((axes, curves(axes, runs, name, content["settings"], scale=scale)))
        panels[0, column].set_title(f"{TITLES[benchmark]}, {NAMES[optimizer]}", fontsize=10)
        panels[-1, column].set_xlabel("task")
    for axes, label in zip(panels[:, 0], INSIDE.values(), strict=True):
        axes.set_ylabel(label)
    for axes, ends in drawn:
        name_lines(axes, ends)
    return figure


def curves(
    axes: Axes, runs: Sequence[dict[str, Any]], name: str, settings: dict[str, Any], *, scale: float
) -> dict[str, float]:
    """Draws mean and interval of every block of tasks; returns where each method's line ends."""
    size, ends = settings["tasks"] // settings["blocks"], {}
    places = (np.arange(settings["blocks"]) + 1) * size - (size / 2 if name == "accuracy" else 0)
    for run in runs:
        means = np.array([interval(column) for column in np.array(run["blocks"][name]).T.tolist()]) * scale
        color = COLORS[run["method"]]
        axes.fill_between(places, means[:, 1], means[:, 2], color=color, alpha=0.15, linewidth=0)
        axes.plot(places, means[:, 0], color=color, linewidth=2.2 if run["method"] == PLAIN else 1.6)
        ends[run["method"]] = float(means[-1, 0])
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    return ends


def name_lines(axes: Axes, ends: dict[str, float]) -> None:
    """Writes the name of each line at its end; names that would overlap are moved apart."""
    low, high = axes.get_ylim()
    names = sorted(ends, key=ends.__getitem__)
    for name, place in zip(names, apart([ends[name] for name in names], (high - low) * GAP, (low, high)), strict=True):
        axes.text(
            1.015,
            place,
            name,
            transform=axes.get_yaxis_transform(),
            color=COLORS[name],
            fontsize=8.5,
            va="center",
            weight="bold" if name == PLAIN else "normal",
        )


def apart(places: Sequence[float], gap: float, limits: tuple[float, float]) -> list[float]:
    """Moves ascending places up and down until all are a gap apart, each group about where it was, within limits."""
    groups: list[tuple[float, int]] = []  # The mean, without gaps, and how many.
    for index, place in enumerate(places):
        mean, count = place - index * gap, 1
        while groups and groups[-1][0] > mean:
            before, more = groups.pop()
            mean, count = (mean * count + before * more) / (count + more), count + more
        groups.append((mean, count))
    low, high = limits[0], limits[1] - (len(places) - 1) * gap
    means = [max(low, min(mean, high)) for mean, count in groups for _ in range(count)]
    return [mean + index * gap for index, mean in enumerate(means)]
