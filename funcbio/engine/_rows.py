"""Rows: layers as compiled programs see them, so that the statistics of many are taken in one loop."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from funcbio.tensors._arithmetic import work_type


@dataclass(frozen=True)
class Rows:
    """Holds the elements of one layer, or of several that lie behind one another, in rows.

    Statistics of it have a row for each layer, ``(layers, 1)``; of one layer without a table, no dimensions.

    Attributes:
        parts: Tensors of shape ``(rows, size)``, whose rows together are those of the layers.
        present: For each part where its elements belong to a layer, bool; None if all do.
        number: How many elements each layer has, float64.
        owner: The layer of each row, if there are several.
        table: The rows of each layer, int64 ``(layers, most)``; -1 where it has no more.
    """

    parts: tuple[Tensor, ...]
    present: tuple[Tensor | None, ...]
    number: Tensor
    owner: Tensor | None = None
    table: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Returns the type of the elements."""
        return self.parts[0].dtype

    def sums(self, of: Any, given: tuple[Tensor, ...]) -> list[Tensor]:
        """Sums the results of an elementwise function over each layer, in float32 or better."""
        return [self._reduced(items, torch.sum, torch.add) for items in self._results(of, given)]

    def top(self, of: Any, given: tuple[Tensor, ...]) -> Tensor:
        """Returns the largest result of an elementwise function, which is not negative, in each layer."""
        (items,) = self._results(lambda part, *rest: (of(part, *rest),), given)
        return self._reduced(items, torch.amax, torch.maximum)

    def _results(self, of: Any, given: tuple[Tensor, ...]) -> list[list[Tensor]]:
        """Returns each result of a function on all parts, 0 where an element belongs to no layer."""
        spread = given if self.owner is None else [fact.index_select(0, self.owner) for fact in given]
        results = []
        for part, present in zip(self.parts, self.present, strict=True):
            items = [item.to(work_type([item])) for item in of(part, *spread)]
            results.append(items if present is None else [torch.where(present, item, 0.0) for item in items])
        return [list(items) for items in zip(*results, strict=True)]

    def _reduced(self, items: list[Tensor], over: Any, join: Any) -> Tensor:
        """Reduces all parts to a number for each layer: along rows, then over the rows of a layer."""
        rows = [over(item, -1) for item in items]
        if self.table is None:
            return over(torch.stack([over(row, -1) for row in rows]), -1)
        return over(self._by_layer(reduce(join, rows)), -1).unsqueeze(-1)

    def _by_layer(self, rows: Tensor) -> Tensor:
        """Lays numbers of rows out by layer; 0 where a layer has no more, which changes neither sums nor maxima."""
        table: Any = self.table
        return torch.where(table >= 0, rows[table.clamp_min(0)], 0.0)
