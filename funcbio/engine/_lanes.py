"""Lanes: kernels on groups of numbers whose random numbers come from the same counters, hashed once for all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio.engine._kernel import FULL, Draw, Kernel, apply, bare
from funcbio.engine._rows import Rows
from funcbio.rng import LANE, lane_list, lanes, words

LANES = 4
"""Lanes of a group: as many numbers as a counter makes in single precision."""


def names_of(kernels: Sequence[Kernel]) -> tuple[str, ...]:
    """Returns the operands that are read or written, the weight first; small draws have the name of their stream."""
    reads = [name for kernel in kernels for name in kernel.reads if not name.endswith("?")]
    small = [draw.stream for kernel in kernels for draw in kernel.draws if draw.like != "rate"]
    own = [name for kernel in kernels for name in kernel.of if takes_own(kernel)]
    return tuple(dict.fromkeys(("weight", *reads, *own, *small, *writes_of(kernels))))


def writes_of(kernels: Sequence[Kernel]) -> tuple[str, ...]:
    """Returns the operands that are written."""
    return tuple(dict.fromkeys(name for kernel in kernels for name in kernel.writes))


def takes_own(kernel: Kernel) -> bool:
    """Returns True if a kernel has statistics that a program can take: of operands of the weight's size."""
    return kernel.statistics is not None and FULL.issuperset(kernel.of)


def rows_of(lanes_: Sequence[Tensor], owner: Tensor, layout: Sequence[Tensor]) -> Rows:
    """Returns the lanes of an operand as rows of layers."""
    table, present, size = layout
    places = torch.arange(LANE, device=owner.device)[None]
    masks = tuple([places + lane * LANE < present for lane in range(LANES)])
    return Rows(tuple(lanes_), masks, size, owner, table)


def run_lane(
    kernels: Sequence[Kernel],
    now: dict[str, Tensor],
    lane: int,
    drawn: list[list[list[Tensor]]],
    facts: list[list[Tensor]],
    hyper: list[dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Runs the kernels on one lane; returns what they write."""
    written: dict[str, Tensor] = {}
    for kernel, numbers, taken, given in zip(kernels, drawn, facts, hyper, strict=True):
        made = [n[lane] if n else now[draw.stream] for draw, n in zip(kernel.draws, numbers, strict=True)]
        results = apply(kernel, operands_of(kernel, now), made, taken, given)
        now.update(results)
        written.update(results)
    return written


def write(old: Tensor, result: Tensor, finite: Tensor) -> None:
    """Writes a result in the place of what was there, unless ``finite`` is False."""
    if result.dtype == torch.bool:  # New and all False. Bytes from numbers are ten times faster than bools.
        old.copy_(torch.where(result & finite, 1.0, 0.0).to(torch.uint8))
    else:
        old.copy_(torch.where(finite, result, old))


def operands_of(kernel: Kernel, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the operands that a kernel of a program reads; None for a name that ends in "?", which no layer has."""
    return {bare(name): None if name.endswith("?") else values[name] for name in kernel.reads}


def works(kernels: Sequence[Kernel], values: Mapping[str, Any]) -> list[torch.dtype]:
    """Returns the type that each kernel computes and draws in."""
    return [kernel.work(operands_of(kernel, values)) for kernel in kernels]


def drawn_by(kernels: Sequence[Kernel], types: Sequence[torch.dtype]) -> list[list[tuple[Draw, torch.dtype, int]]]:
    """Returns for each kernel its draws, their type, and how many blocks of counters make the numbers of a group.

    None for draws that are given as operands.

    Args:
        kernels: The kernels.
        types: Types of the operands, in order of ``names_of``.
    """
    typed = {name: torch.empty(0, dtype=dtype) for name, dtype in zip(names_of(kernels), types, strict=True)}
    return [
        [(draw, t, LANES // lanes(draw.law, t) if draw.like == "rate" else 0) for draw in kernel.draws]
        for kernel, t in zip(kernels, works(kernels, typed), strict=True)
    ]


def draw_lanes(
    kernels: Sequence[Kernel], types: Sequence[torch.dtype], key: Tensor, counters: Tensor
) -> list[list[list[Tensor]]]:
    """Draws the numbers of every kernel, lane by lane; none for draws that are given as operands."""
    column, drawn = 0, []
    for draws in drawn_by(kernels, types):
        numbers = []
        for draw, dtype, each in draws:
            if not each:
                numbers.append([])
                continue
            second = counters[:, column + each : column + each + 1]
            firsts = [counters[:, column + block : column + block + 1] for block in range(each)]
            numbers.append([n for first in firsts for n in lane_list(draw.law, *words(key, first, second), dtype)])
            column += each + 1
        drawn.append(numbers)
    return drawn
