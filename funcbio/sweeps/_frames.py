"""Frames that print whole: no column is left out, whatever the width of the terminal. Imports pandas."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from funcbio._seeds import extra
from funcbio.plot._canvas import spell

pandas: Any = extra("pandas")
NUMBERS = ("baseline", "pairs", "diverged", "difference", "low", "high", "p_value")
"""Columns of a comparison behind the hyper-parameters."""
CORRECTED = "p: Wilcoxon's signed-rank test, not corrected for the number of rows"


class Whole(pandas.DataFrame):
    """Prints all of its rows and columns, each row in a line."""

    @property
    def _constructor(self) -> Any:
        return type(self)

    def __repr__(self) -> str:
        """Returns the frame as text."""
        return self.to_string()

    def _repr_html_(self) -> str:
        with pandas.option_context("display.max_colwidth", None):
            return self.to_html()


class Comparison(Whole):
    """Holds what ``SweepResult.compare`` found, a row for each value; prints as a table for people.

    It is a DataFrame with all of its columns. What is made of it prints as a comparison while it has these.

    Attributes:
        attrs: "metric", "by", "baseline" and "step": what was compared, with what, and when.
    """

    def __repr__(self) -> str:
        """Returns the hyper-parameters, difference, interval, p-value and pairs in a line for each row."""
        if not self._is_whole():
            return super().__repr__()
        return "\n".join([self._title(), *_aligned(self.cells()), CORRECTED])

    def _repr_html_(self) -> str:
        if not self._is_whole():
            return super()._repr_html_()
        with pandas.option_context("display.max_colwidth", None):
            table = pandas.DataFrame(self.cells()).to_html(index=False)
        return f"<p>{escape(self._title())}</p>{table}<p>{CORRECTED}</p>"

    def cells(self) -> dict[str, list[str]]:
        """Returns the printed columns as text, by their headings."""
        names = [name for name in self.columns if name not in NUMBERS]
        names += [] if self.attrs else ["baseline"]
        cells = {f"{name}": [spell(value) for value in self[name].tolist()] for name in names}
        cells["difference"] = [f"{value:+#.4g}" for value in self["difference"]]
        cells["95 % interval"] = [_interval(*ends) for ends in zip(self["low"], self["high"], strict=True)]
        cells["p"] = [f"{value:.2g}" for value in self["p_value"]]
        cells["pairs"] = [f"{count}" for count in self["pairs"]]
        if self["diverged"].any():
            cells["diverged"] = [f"{count}" for count in self["diverged"]]
        return cells

    def _is_whole(self) -> bool:
        named = any(name is not None for name in self.index.names)  # Then the index says something.
        return {*NUMBERS} <= {*self.columns} and self.columns.is_unique and not named

    def _title(self) -> str:
        if not self.attrs:
            return "differences from a baseline, paired by seed"
        metric, by, baseline, step = (self.attrs[name] for name in ("metric", "by", "baseline", "step"))
        return f"{metric} at step {step}: difference from {by} = {baseline}, paired by seed"


def _interval(low: float, high: float) -> str:
    return "none" if math.isnan(low) else f"[{low:+#.4g}, {high:+#.4g}]"


def _aligned(cells: Mapping[str, list[str]]) -> list[str]:
    """Returns a line of headings and one for each row."""
    widths = [max(map(len, [heading, *column])) for heading, column in cells.items()]
    rows = [[*cells], *zip(*cells.values(), strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
