"""The tables of the grid, from its results: for the terminal and for a page."""

from collections.abc import Mapping
from typing import Any

from funcbio.experiments.grid.measures import MEASURES

DIGITS = {"accuracy": 2, "loss": 4, "epochs": 1, "gap": 4, "area": 2}
TITLES = {
    "paper": "The paper's protocol: SGD, learning rate {lr:g}, {epochs} epochs",
    "tuned": "Tuned: SGD, momentum {momentum:g}, the best learning rate of every cell, {epochs_tuned} epochs",
}
HEADINGS = {**MEASURES, "epochs": "epochs to {goal:.0%}", "gap": "loss gap", "area": "area, %"}


def title_of(protocol: str, settings: Mapping[str, Any]) -> str:
    """Says how the runs of a protocol were trained."""
    return TITLES[protocol].format(**settings)


def headings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Short names of the measures."""
    return {name: text.format(**settings) for name, text in HEADINGS.items()}


def table(results: Mapping[str, Any], protocol: str) -> list[list[str]]:
    """Heading and rows: mean and interval of every measure."""
    settings = results["settings"]
    rows = [["cell", *headings(settings).values()]]
    for row in results[protocol]["cells"]:
        cells = [spell(row[name], DIGITS[name]) for name in MEASURES]
        missed = row["runs"] - row["reached"]
        cells[list(MEASURES).index("epochs")] += f" ({missed} of {row['runs']} never)" if missed else ""
        rows.append([row["cell"], *cells])
    return rows


def difference_table(results: Mapping[str, Any], protocol: str) -> list[list[str]]:
    """Heading and rows: what every cell changes, paired with the plain one; a star where q < 0.05."""
    rows = [["cell minus plain", *headings(results["settings"]).values()]]
    for row in results[protocol]["cells"][1:]:
        cells = [row["cell"]]
        for name in MEASURES:
            found = row[name]["difference"]
            cells.append(spell(found, DIGITS[name], "+") + stars(found))
        rows.append(cells)
    return rows


def stars(found: Mapping[str, Any]) -> str:
    """One star if the difference holds over seeds, adjusted for all cells; two if also over folds."""
    sure = [found[name] is not None and found[name] < 0.05 for name in ("q", "p_folds")]
    return " **" if all(sure) else " *" if sure[0] else ""


def spell(found: Mapping[str, Any], digits: int, sign: str = "") -> str:
    """Writes mean and interval."""
    if found["mean"] is None or found["low"] is None:
        return "diverged"
    mean, low, high = (f"{found[end]:{sign}.{digits}f}" for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def rates_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Heading and rows: validation accuracy of every cell at every learning rate, the chosen one in brackets."""
    rates = [f"{lr:g}" for lr in sorted(map(float, results["tuning"][0]["accuracy"]))]
    rows = [["cell", *rates]]
    for row in results["tuning"]:
        own = {f"{float(lr):g}": 100.0 * value for lr, value in row["accuracy"].items()}
        best = f"{row['chosen']:g}"
        rows.append([row["cell"], *(f"[{own[lr]:.2f}]" if lr == best else f"{own[lr]:.2f}" for lr in rates)])
    return rows


def markdown(rows: list[list[str]]) -> str:
    """Writes a table for a page."""
    lines = [" | ".join(cell.replace("*", r"\*") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join(["---"] * len(rows[0])), *lines[1:]])


def page(results: Mapping[str, Any]) -> str:
    """All tables, for a page."""
    parts = []
    for protocol in ("paper", "tuned"):
        parts += [f"**{title_of(protocol, results['settings'])}**", markdown(table(results, protocol))]
        parts.append(markdown(difference_table(results, protocol)))
    parts += ["**Validation accuracy in the search for learning rates, %**", markdown(rates_table(results))]
    return "\n\n".join(parts) + "\n"
