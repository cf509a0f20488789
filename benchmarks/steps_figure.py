"""How the times of ``steps.py`` are summarised and shown: ratios, tables and a figure."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

Entry = dict[str, Any]
"""One method of one model, as in the report."""

RATIOS = [(a, b) for b in ("release", "floor", "step") for a in ("eager", "compiled")]
LETTERS = {"release": "a", "eager": "b", "compiled": "c", "floor": "d", "step": "e"}
LEGEND = "a release, b funcbio, c compiled, d floor, e training step"
SHOWN_RATIOS = {"eager/release": "b/a", "compiled/release": "c/a", "eager/floor": "b/d", "compiled/step": "c/e"}
SHORT = {
    "volume_dependent_lr": "volume",
    "fuzzy_learning_rates": "fuzzy",
    "rejuvenate_weights": "rejuvenate",
    "update_fuzzy_learning_rates": "activity",
}


def summarise(times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, quartiles and ratios of one method, by contender."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    quartiles = {name: statistics.quantiles(values, n=4)[::2] for name, values in times.items()}
    ratios = {f"{a}/{b}": medians[a] / medians[b] for a, b in RATIOS if a in medians and b in medians}
    calls = {name: len(values) for name, values in times.items()}
    return {"median_ms": medians, "quartiles_ms": quartiles, "calls": calls, "ratios": ratios}


def geometric_means(cases: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Geometric means of each ratio over the methods: of all models, and of each."""
    found: dict[str, dict[str, float]] = {}
    for name in (f"{a}/{b}" for a, b in RATIOS):
        by_model = {"all": [case["ratios"][name] for case in cases if name in case["ratios"]]}
        for case in (case for case in cases if name in case["ratios"]):
            by_model.setdefault(case["model"], []).append(case["ratios"][name])
        found |= {name: {k: statistics.geometric_mean(v) for k, v in by_model.items()}} if by_model["all"] else {}
    return found


def number(value: float | None) -> str:
    """A number in a few characters, or a dash."""
    if value is None:
        return "-"
    return f"{value:.2g}" if value < 0.1 else f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def grouped(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries by model, in order."""
    models: dict[str, list[Entry]] = {}
    for entry in entries:
        models.setdefault(entry["model"], []).append(entry)
    return models


def empty_table(title: str, names: Iterable[str], numbers: Iterable[str], caption: str | None = None) -> Table:
    """A table with columns of names and then of numbers, narrow enough for a small terminal."""
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=0)
    for heading in names:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def model_table(model: str, entries: list[Entry]) -> Table:
    """Times, ratios and operations of one model."""
    title = f"{model}, {entries[0]['synapses']:,} synapses: ms, ratios, operations"
    table = empty_table(title, ["method"], [*LETTERS.values(), *SHOWN_RATIOS.values(), "ops a", "ops b"], LEGEND)
    for entry in entries:
        times = [number(entry["median_ms"].get(name)) for name in LETTERS]
        ratios = [number(entry["ratios"].get(name)) for name in SHOWN_RATIOS]
        counts = [str(entry["operations"].get(name, "-")) for name in ("release", "eager")]
        table.add_row(SHORT.get(entry["method"], entry["method"]), *times, *ratios, *counts)
    return table


def memory_table(entries: list[Entry]) -> Table:
    """Peaks of extra memory, in bytes for each synapse."""
    title = "Peak of extra memory, bytes for each synapse (without what is returned)"
    contenders = list(dict.fromkeys(entry["contender"] for entry in entries))
    table, found = empty_table(title, ["model", "method"], contenders), {}
    for entry in entries:
        with_it, without = entry["bytes_per_synapse"], entry["bytes_per_synapse_without_result"]
        cell = f"{with_it:.1f}" + (f" ({without:.1f})" if with_it != without else "")
        found.setdefault((entry["model"], entry["method"]), {})[entry["contender"]] = cell
    for key, cells in found.items():
        table.add_row(*key, *(cells.get(name, "-") for name in contenders))
    return table


def show(report: dict[str, Any], console: Console) -> None:
    """Prints the tables of a report and the geometric means."""
    for model, entries in grouped(report["cases"]).items():
        console.print(model_table(model, entries))
    for name in ("eager/release", "compiled/release"):
        if means := report["geometric_means"].get(name):
            cells = ", ".join(f"{model} {number(mean)}" for model, mean in means.items())
            console.print(f"Geometric means of {name}: {cells}.")
    if report.get("memory"):
        console.print(memory_table(report["memory"]))
    for entry in report.get("compile", []):
        console.print(f"First chain of {entry['model']}, {entry['cache']}: {entry['first_call_s']:.1f} s.")


def show_comparison(new: dict[str, Any], old: dict[str, Any], console: Console) -> None:
    """Prints, for each case that both reports have, the new median over the old one."""
    before = {(entry["model"], entry["method"]): entry["median_ms"] for entry in old["cases"]}
    table, found = empty_table("New times over old ones", ["model", "method"], LETTERS), {}
    for entry in new["cases"]:
        key, now = (entry["model"], entry["method"]), entry["median_ms"]
        then = before.get(key, {})
        ratios = {name: now[name] / then[name] for name in LETTERS if name in now and name in then}
        for name, ratio in ratios.items():
            found.setdefault(name, []).append(ratio)
        if ratios:
            table.add_row(*key, *(number(ratios.get(name)) for name in LETTERS))
    table.add_section()
    means = {name: statistics.geometric_mean(values) for name, values in found.items()}
    table.add_row("geometric mean", "", *(number(means.get(name)) for name in LETTERS))
    console.print(table)


COLORS = {"release": "#D55E00", "eager": "#0072B2", "compiled": "#009E73", "step": "#888888"}
"""Of Okabe and Ito, which colour-blind readers can tell apart; the markers differ too."""

MARKERS = {"release": ("s", 7.0), "eager": ("o", 5.5), "compiled": ("D", 4.0)}
"""Form and size; those drawn later are smaller, so that equal times stay visible."""

NAMES = {"release": "release 0.0.5", "eager": "funcbio", "compiled": "funcbio, compiled", "step": "plain training step"}
PANELS = {name: name for name in ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize", "rejuvenate_weights")}
PANELS |= {"chain": "the first three in one step"}
OTHERS = {"resnet": "ResNet", "transformer": "Trans-\nformer"}
PERCEPTRON, GAP = "mlp", 1.4
"""The perceptrons differ in size alone, so lines connect them; the other networks stand apart."""


def save_figure(report: dict[str, Any], path: str) -> None:
    """Draws milliseconds of each method over the networks."""
    entries = [entry for entry in report["cases"] if entry["method"] in PANELS]
    places: dict[str, float] = {}
    for model in grouped(entries):
        last = max(places.values(), default=-1.0)
        places[model] = last + (1.0 if model.startswith(PERCEPTRON) else GAP)
    with matplotlib.rc_context({"svg.hashsalt": "steps", "font.size": 9, "axes.spines.top": False}):
        figure = Figure(figsize=(9, 5.4), layout="constrained")
        panels: Any = figure.subplots(2, 3, sharex=True, sharey=True)
        for axes, method in zip(panels.flat, PANELS, strict=False):
            draw_panel(axes, method, [entry for entry in entries if entry["method"] == method], places)
        label_networks(panels[0, 2], entries, places)
        draw_legend(panels[1, 2], panels[0, 0])
        for axes in panels[:, 0]:
            axes.set_ylabel("milliseconds (log scale)")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.endswith("svg") else None, dpi=100)


def draw_panel(axes: Axes, method: str, entries: list[Entry], places: dict[str, float]) -> None:
    """Draws one method: a mark for each contender and network, and a bar for the training step."""
    axes.set_title(PANELS[method], fontsize=10)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.spines["right"].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    for perceptrons in (True, False):
        group = [entry for entry in entries if entry["model"].startswith(PERCEPTRON) == perceptrons]
        for name in NAMES:
            drawn = [entry for entry in group if name in entry["median_ms"]]
            x, y = [places[entry["model"]] for entry in drawn], [entry["median_ms"][name] for entry in drawn]
            style: dict[str, Any] = {"color": COLORS[name], "label": NAMES[name]}
            if drawn and name == "step":
                axes.hlines(y, [at - 0.4 for at in x], [at + 0.4 for at in x], linewidth=3, zorder=1, **style)
            elif drawn:
                form, size = MARKERS[name]
                axes.plot(x, y, form, linestyle="-" if perceptrons else "none", markersize=size, linewidth=1.2, **style)


def label_networks(axes: Axes, entries: list[Entry], places: dict[str, float]) -> None:
    """Writes sizes and names of the networks below the panels, also of the one above the legend."""
    sizes = {entry["model"]: entry["parameters"] for entry in entries}
    labels = {at: f"{size_of(sizes[model])}\n{OTHERS.get(model, '')}" for model, at in places.items()}
    perceptrons = [at for model, at in places.items() if model.startswith(PERCEPTRON)]
    if perceptrons:
        middle = sum(perceptrons) / len(perceptrons)
        labels[middle] = f"{labels.get(middle, '').strip()}\nperceptrons"
    axes.set_xticks(list(labels), list(labels.values()))
    axes.tick_params(axis="x", labelbottom=True)


def size_of(parameters: int) -> str:
    """A number of parameters in a few characters."""
    million = parameters / 1e6
    return f"{1e3 * million:.0f} k" if million < 0.1 else f"{million:.{0 if million >= 10 else 1}f} M"


def draw_legend(axes: Axes, source: Axes) -> None:
    """Fills a panel with the legend of another."""
    axes.axis("off")
    handles, names = source.get_legend_handles_labels()
    unique = dict(zip(names[::-1], handles[::-1], strict=True))
    shown = [name for name in NAMES.values() if name in unique]
    axes.legend([unique[name] for name in shown], shown, loc="center", frameon=False, fontsize=10, labelspacing=0.8)
