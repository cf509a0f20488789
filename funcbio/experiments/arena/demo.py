"""``python -m funcbio demo``: in a minute, which networks still learn after some tens of tasks in a row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.figure import Figure

from funcbio.experiments.arena.demo_settings import BLOCK_TASKS, OPTIMIZER, TASK_STEPS, TUNED, Settings
from funcbio.experiments.arena.methods import named, settings_of
from funcbio.experiments.arena.results import compared
from funcbio.experiments.arena.settings import Settings as ArenaSettings
from funcbio.experiments.arena.tables import numbers
from funcbio.experiments.arena.tasks import ROWS, TITLES, Row
from funcbio.experiments.arena.tasks.images import pool
from funcbio.experiments.arena.training import train
from funcbio.experiments.frame.experiment import begin
from funcbio.experiments.frame.files import UNDATED, rounded, save_figure
from funcbio.experiments.frame.intervals import interval, over, spell
from funcbio.experiments.frame.results import about
from funcbio.experiments.frame.searching import Point
from funcbio.experiments.frame.table import Table
from funcbio.plot._canvas import draw_mean, figure_of

COLORS = dict(zip(TUNED["labels"], ("#000000", "#888888", "#56B4E9", "#0072B2", "#D55E00"), strict=True))
HEADINGS = ("method", "first fifth", "last fifth", "all tasks, minus plain")


def run(settings: Settings) -> None:
    """Trains every method on the same tasks, prints a table and draws the curves.

    Raises:
        SettingError: If the output cannot be written; before any training.
    """
    with begin(settings, lambda _: ROWS[settings.task](pool("digits", "data"))) as (row, output):
        output.say(f"{heading(settings)}. The arena found the numbers.")
        runs, points = [], TUNED[settings.task]
        for number, (name, point) in enumerate(points.items(), 1):
            part = {"method": name, "best": settings_of(named(name), point), "at_limit": []}
            output.say(f"{number} of {len(points)}: {name} ({numbers(part)})")
            runs.append({**part, **trained(settings, row, name, point)})
        output.write("results.json", {**about(settings), "runs": runs})
        figure = curves(settings, runs)
        save_figure(output.folder / "demo.png", figure, dpi=150)
        save_figure(output.folder / "demo.svg", figure, **UNDATED)
        output.show(table(settings, runs))
        output.end()


def heading(settings: Settings) -> str:
    """Returns what is compared, in a line."""
    title = TITLES[settings.task].title
    return f"{title.capitalize()}: {settings.tasks} tasks in a row, Adam, {settings.seeds} seeds"


def trained(settings: Settings, row: Row, name: str, point: Point) -> dict[str, Any]:
    """Trains one method with all seeds; returns what the arena's results hold beside the method and its numbers."""
    sizes = ArenaSettings(steps=settings.tasks * TASK_STEPS, blocks=settings.tasks // BLOCK_TASKS, compile="no")
    seeds = [*range(settings.seeds)]
    with TemporaryDirectory() as folder:
        measured = train(sizes, row, named(name), OPTIMIZER, [point], seeds, Path(folder) / "sweep", progress=True)
    place = {"data": "digits", "task": row.name, "optimizer": OPTIMIZER}
    return {**place, "values": rounded(measured.values[0])}


def table(settings: Settings, runs: Sequence[Mapping[str, Any]]) -> Table:
    """Makes the table, best method first."""
    rows = sorted(compared(runs), key=lambda row: -row["all"]["mean"])
    cells = [
        [row["method"], *(spell(row[name], scale=100.0) for name in ("first", "last")), _minus(row)] for row in rows
    ]
    caption = f"Right answers before learning from a batch, %: mean {over(settings.seeds)}."
    return Table(HEADINGS, cells, {"title": heading(settings), "caption": caption})


def _minus(row: Mapping[str, Any]) -> str:
    return spell(row["plain"], scale=100.0, sign="+") if "plain" in row else ""


def curves(settings: Settings, runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the share of right answers of every method over the tasks, with 95 % intervals over seeds."""
    figure = figure_of("experiments", figsize=(7.5, 4.2))
    axes = figure.subplots()
    x = [start + BLOCK_TASKS / 2 for start in range(0, settings.tasks, BLOCK_TASKS)]
    for run in runs:
        ends = [interval([100.0 * value for value in block]) for block in zip(*run["values"], strict=True)]
        draw_mean(axes, x, zip(*ends, strict=True), run["method"], COLORS[run["method"]])
    label_ends(axes, x[-1], runs)
    axes.set(title=heading(settings), xlabel="tasks so far", ylabel="right answers, %", xlim=(0, settings.tasks * 1.3))
    axes.set_xticks(range(0, settings.tasks + 1, -(-settings.tasks // 6)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    return figure


def label_ends(axes: Any, x: float, runs: Sequence[Mapping[str, Any]]) -> None:
    """Writes the name of each method beside the end of its curve, names a line apart."""
    low, high = axes.get_ylim()
    gap, last = (high - low) / 18.0, -float("inf")
    means = [(100.0 * sum(seed[-1] for seed in run["values"]) / len(run["values"]), run["method"]) for run in runs]
    for mean, name in sorted(means):
        last = max(mean, last + gap)
        axes.text(x * 1.02, last, name, color=COLORS[name], va="center", fontsize=9)
