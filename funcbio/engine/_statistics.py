"""Statistics of a layer: of the whole if it is sharded, and the same on any number of threads and under vmap."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from funcbio.engine._options import OPTIONS
from funcbio.engine._reductions import CHUNK, are_compiled, reduced_rows
from funcbio.rng import constants
from funcbio.tensors._sharding import is_distributed, reduced

Elementwise: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]


def totals(values: Tensor, of: Elementwise) -> list[Tensor]:
    """Sums elementwise functions of all elements in a fixed order, in float32 or better.

    A plain ``sum`` splits large tensors by thread and by batch, so that a mask drawn against a layer's
    standard deviation could differ between a vmapped run and a loop. Outside a compiled graph it goes part by part, so
    that the functions' values never lie in memory all at once.
    """
    if is_distributed(values):
        return [*reduced(values, lambda part: torch.stack(totals(part, of))).unbind()]
    sums, rest = _reduced(values, of, "sum") if are_compiled() else ([], values)
    columns = [*sums, *([_rows(item) for item in of(part)] for part in _parts(rest))]
    return [_sum(rows[0] if len(rows) == 1 else torch.cat(rows)) for rows in zip(*columns, strict=True)]


def total(values: Tensor) -> Tensor:
    """Sums all elements; see ``totals``."""
    return totals(values, lambda part: (part,))[0]


def _sum(rows: Tensor) -> Tensor:
    if rows.numel() == 1:
        return rows.reshape(())
    return rows.sum() if rows.numel() < CHUNK else total(rows)


def _reduced(values: Tensor, of: Elementwise, kind: str) -> tuple[list[tuple[Tensor, ...]], Tensor]:
    """Returns the reductions of whole rows by a compiled program, if there are any, and the remaining elements."""
    rows, rest = reduced_rows(values.flatten(), of, kind)
    return ([rows] if rows else []), rest


def _parts(values: Tensor) -> tuple[Tensor, ...]:
    flat = values.flatten()
    most = OPTIONS.sum_elements
    return (flat,) if flat.numel() <= most or torch.compiler.is_compiling() else flat.split(most)


def _rows(values: Tensor) -> Tensor:
    """Sums each run of ``CHUNK`` elements, and the remaining elements."""
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    whole = wide.numel() - wide.numel() % CHUNK
    if whole == 0:
        return wide.sum().reshape(1)
    rows = wide[:whole].reshape(-1, CHUNK).sum(-1)
    return torch.cat((rows, wide[whole:].sum().reshape(1))) if whole < wide.numel() else rows


def mean(values: Tensor, of: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Returns the mean of all elements, or of an elementwise function of them, in float32 or better; 0 of none."""
    wide = torch.promote_types(values.dtype, torch.float32)
    number = constants(wide)(float(max(values.numel(), 1)))

    def share(part: Tensor) -> tuple[Tensor]:
        # Divided first: the sum of large numbers may overflow where their mean does not.
        return ((part if of is None else of(part)).to(wide) / number,)

    return totals(values, share)[0]


def largest(values: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns the largest of an elementwise function that is not negative; 0 for a process that holds no row."""
    if is_distributed(values):
        return reduced(values, partial(largest, of=of), "max")
    if values.numel() == 0:
        return of(values.new_zeros(()))
    rows, rest = _reduced(values, lambda part: (of(part),), "amax") if are_compiled() else ([], values)
    tops = [row_tops.amax() for (row_tops,) in rows] + [of(part).amax() for part in _parts(rest) if part.numel()]
    return tops[0] if len(tops) == 1 else torch.stack(tops).amax()
