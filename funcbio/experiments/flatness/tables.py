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
        table.add_row(*cells(row))
    return table


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Writes the table for the documents."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row))} |" for row in rows)]) + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    """Writes one row."""
    found = [row["variant"], number(row["train_loss"]), number(row["test_accuracy"], scale=100.0)]
    for name in ("largest", "trace"):
        ratios = (number(row.get(f"{name}_ratio{end}")) for end in ("", "_at_equal_loss"))
        found += [number(row[name]), *ratios]
    return found


def number(found: dict[str, float] | None, *, scale: float = 1.0) -> str:
    """Writes a mean with its interval, in three digits."""
    if found is None:
        return ""
    mean, low, high = (f"{found[name] * scale:.3g}" for name in ("mean", "low", "high"))
    return "never" if mean == "nan" else f"{mean} [{low}, {high}]"
