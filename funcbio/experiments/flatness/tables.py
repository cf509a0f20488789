"""The table of flatness, for the terminal and for the documents."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from funcbio.experiments.flatness.results import EQUAL_LOSS
from funcbio.experiments.flatness.settings import Settings

HEADINGS = (
    "variant",
    "train loss",
    "test accuracy, %",
    "largest eigenvalue",
    "times plain",
    f"times plain at loss {EQUAL_LOSS:g}",
    "trace",
    "times plain",
    f"times plain at loss {EQUAL_LOSS:g}",
)


def result_table(rows: Sequence[dict[str, Any]], settings: Settings) -> Table:
    """Makes the table."""
    caption = f"Mean [95 % interval over {settings.seeds} seeds] after {settings.epochs} epochs; ratios paired by seed."
    table = Table(title="Curvature of the training loss", caption=caption, box=box.SIMPLE_HEAD, show_edge=False)
    for heading in HEADINGS:
        table.add_column(heading)
    for row in rows:
        table.add_row(*cells(row, settings.seeds))
    return table


def markdown(rows: Sequence[dict[str, Any]], seeds: int) -> str:
    """Writes the table for the documents."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row, seeds))} |" for row in rows)]) + "\n"


def cells(row: dict[str, Any], seeds: int) -> list[str]:
    """Writes one row."""
    found = [row["variant"], number(row["train_loss"]), number(row["test_accuracy"], scale=100.0)]
    for name in ("largest", "trace"):
        ratios = (number(row.get(f"{name}_ratio{end}"), seeds=seeds) for end in ("", "_at_equal_loss"))
        found += [number(row[name]), *ratios]
    return found


def number(found: dict[str, Any] | None, *, scale: float = 1.0, seeds: int = 0) -> str:
    """Writes a mean with its interval, in three digits; and of how many seeds, if not of all."""
    if found is None:
        return ""
    mean, low, high = ("nan" if found[n] is None else f"{found[n] * scale:.3g}" for n in ("mean", "low", "high"))
    some = f" ({found['seeds']} seeds)" if 0 < found.get("seeds", seeds) < seeds else ""
    return "never" if mean == "nan" else f"{mean} [{low}, {high}]{some}"
