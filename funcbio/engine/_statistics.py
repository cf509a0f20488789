"""Statistics of a layer: of the whole if it is sharded, and the same on any number of threads and under vmap."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.base import Number
from funcbio.engine._options import OPTIONS
from funcbio.engine._rows import Rows
from funcbio.rng import constants
from funcbio.tensors._arithmetic import spare
from funcbio.tensors._sharding import is_distributed, reduced


class Stack(NamedTuple):
    """Holds layers of one size, a row each; every statistic of it has a row for each, ``(layers, 1)``."""

    rows: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Returns the type of the elements."""
        return self.rows.dtype


CHUNK = 4096
"""Elements of a row; short enough that torch never splits the sum of one over threads."""
Values = Tensor | Rows | Stack


def totals(values: Values, of: Callable[..., tuple[Tensor, ...]], *given: Any) -> list[Tensor]:
    """Sums elementwise functions of all elements in a fixed order, in float32 or better.

    A plain ``sum`` splits large tensors by thread and by batch, so that a mask drawn against a layer's
    standard deviation could differ between a vmapped run and a loop. Outside a compiled graph it goes part by part, so
    that the functions' values never lie in memory all at once.

    Args:
        values: A layer, or rows of layers.
        of: From some of the elements, and what is given, to a tuple of tensors.
        *given: Earlier statistics that the function takes.
    """
    if isinstance(values, Rows):
        return values.sums(of, given)
    if isinstance(values, Stack):
        return [_sum(_rows(item)).unsqueeze(-1) for item in of(values.rows, *given)]
    if is_distributed(values):
        return [*reduced(values, lambda part: torch.stack(totals(part, of, *given))).unbind()]
    columns = [[_rows(item) for item in of(part, *given)] for part in _parts(values)]
    return [_sum(rows[0] if len(rows) == 1 else torch.cat(rows)) for rows in zip(*columns, strict=True)]


def total(values: Tensor) -> Tensor:
    """Sums all elements; see ``totals``."""
    return totals(values, lambda part: (part,))[0]


def count(values: Values) -> Number:
    """Returns the number of elements: of rows a tensor, in the type of their statistics."""
    if isinstance(values, Rows):
        return values.number.to(_wide(values))
    return values.rows.shape[-1] if isinstance(values, Stack) else values.numel()


def _wide(values: Values) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)


def _sum(rows: Tensor) -> Tensor:
    if rows.shape[-1] == 1:
        return rows.squeeze(-1)
    return rows.sum(-1) if rows.shape[-1] < CHUNK else total(rows)


def _parts(values: Tensor) -> tuple[Tensor, ...]:
    flat = values.flatten()
    most = OPTIONS.sum_elements
    return (flat,) if flat.numel() <= most or torch.compiler.is_compiling() else flat.split(most)


def _rows(values: Tensor) -> Tensor:
    """Sums each run of ``CHUNK`` elements along the last axis, and the remaining elements."""
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    size = wide.shape[-1]
    whole = size - size % CHUNK
    if whole == 0:
        return wide.sum(-1, keepdim=True)
    rows = wide[..., :whole].unflatten(-1, (-1, CHUNK)).sum(-1)
    return torch.cat((rows, wide[..., whole:].sum(-1, keepdim=True)), -1) if whole < size else rows


def mean(values: Values, of: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Returns the mean of all elements, or of an elementwise function of them, in float32 or better; 0 of none."""
    wide = _wide(values)
    number: Any = count(values) if isinstance(values, Rows) else constants(wide)(float(max(count(values), 1)))

    def share(part: Tensor, number: Any) -> tuple[Tensor]:
        # Divided first: the sum of large numbers may overflow where their mean does not.
        if of is None:
            return (part.to(wide) / number,)
        values = of(part).to(wide)
        return (torch.div(values, number, out=spare(values)),)

    return totals(values, share, number)[0]


def largest(values: Values, of: Callable[..., Tensor], *given: Any) -> Tensor:
    """Returns the largest of an elementwise function that is not negative; 0 for a process that holds no row."""
    if isinstance(values, Rows):
        return values.top(of, given)
    if isinstance(values, Stack):
        return of(values.rows, *given).amax(-1, keepdim=True)
    if is_distributed(values):
        return reduced(values, lambda part: largest(part, of, *given), "max")
    if values.numel() == 0:
        return of(values.new_zeros(()), *given)
    tops = [of(part, *given).amax() for part in _parts(values) if part.numel()]
    return tops[0] if len(tops) == 1 else torch.stack(tops).amax()
