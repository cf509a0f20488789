"""The table of flatness, for the terminal and for the documents."""

from collections.abc import Sequence
from typing import Any

from funcbio.experiments.flatness.results import EQUAL_LOSS
from funcbio.experiments.flatness.settings import Settings
from funcbio.experiments.frame.intervals import counted, over, spell
from funcbio.experiments.frame.table import Table

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
    caption = f"Mean {over(settings.seeds)} after {counted(settings.epochs, 'epoch')}; ratios paired by seed."
    style = {"title": "Curvature of the training loss", "caption": caption}
    return Table(HEADINGS, [cells(row, settings.seeds) for row in rows], style, tied=(4, 5, 7, 8))


def cells(row: dict[str, Any], seeds: int) -> list[str]:
    """Returns the cells of one variant."""
    texts = [row["variant"], number(row["train_loss"]), number(row["test_accuracy"], scale=100.0)]
    for name in ("largest", "trace"):
        ratios = (number(row.get(f"{name}_ratio{end}"), seeds=seeds) for end in ("", "_at_equal_loss"))
        texts += [number(row[name]), *ratios]
    return texts


def number(ends: dict[str, Any] | None, *, scale: float = 1.0, seeds: int = 0) -> str:
    """Writes a mean with its interval, in three digits, and the number of its seeds if some are missing."""
    if ends is None:
        return ""
    text = spell(ends, ".3g", scale=scale, missing="")
    some = f" ({counted(ends['seeds'], 'seed')})" if 0 < ends.get("seeds", seeds) < seeds else ""
    return "never" if text.startswith("nan") else text + some
