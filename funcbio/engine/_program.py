"""Programs: loops that torch compiles once for a sequence of kernels and a type of numbers."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from funcbio.engine._compiling import with_own_code
from funcbio.engine._kernel import Kernel, apply, bare
from funcbio.rng import lane_list, lanes, words

LANES = 4
"""Lanes of a group: as many numbers as a counter makes in single precision."""
OPTIONS: dict[str, Any] = {"realize_opcount_threshold": 40}
"""How long an expression may grow before the compiler gives it a name: fewer, and one loop becomes several; more, and
compiling takes longer, because an expression is gone through once for each of its uses."""
Lanes = dict[str, list[Tensor]]


class Program:
    """Runs a compiled sequence of kernels.

    Args:
        kernels: Kernels whose operands all have the size of the weight.

    Attributes:
        names: Operands that are read or written, the weight first.
        writes: Operands that are written.
        ran: Whether it ran once: then it is compiled.
    """

    def __init__(self, kernels: tuple[Kernel, ...]) -> None:
        reads = [name for kernel in kernels for name in kernel.reads if not name.endswith("?")]
        self.writes = tuple(dict.fromkeys(name for kernel in kernels for name in kernel.writes))
        # Draws that are not of the weights' size are operands, named as their streams.
        small = [draw.stream for kernel in kernels for draw in kernel.draws if draw.like != "rate"]
        self.names = tuple(dict.fromkeys(("weight", *reads, *small, *self.writes)))
        self.kernels, self.ran = kernels, False
        self.compiled = torch.compile(with_own_code(run_lanes), fullgraph=True, options=OPTIONS)

    def __call__(
        self,
        values: Lanes,
        meta: Tensor,
        statistics: list[list[Tensor]],
        hyper: list[dict[str, Tensor]],
        finite: Tensor,
    ) -> None:
        """Runs the program in place.

        Args:
            values: Of each operand its lanes, tensors of shape ``(groups, LANE)``.
            meta: int32 ``(groups, ...)``: the key of each group's layer, then every draw's counter words.
            statistics: For each kernel its statistics, each ``(groups, 1)``.
            hyper: For each kernel its hyper-parameters, tensors of no dimensions; all of them tensors of their own.
            finite: If False, nothing is written.
        """
        if not self.ran:
            every = [lane for column in values.values() for lane in column]
            for tensor in (*every, meta, *(fact for facts in statistics for fact in facts)):
                torch._dynamo.mark_dynamic(tensor, 0)
        self.compiled(self.kernels, values, meta, statistics, hyper, finite)
        self.ran = True


@lru_cache(maxsize=64)
def program(kernels: tuple[Kernel, ...], dtypes: tuple[torch.dtype, ...], device: str) -> Program:
    """Returns the program of a sequence of kernels for its operands' types and device: the same for every model."""
    del dtypes, device
    return Program(kernels)


def run_lanes(
    kernels: tuple[Kernel, ...],
    values: Lanes,
    meta: Tensor,
    statistics: list[list[Tensor]],
    hyper: list[dict[str, Tensor]],
    finite: Tensor,
) -> None:
    """Runs every kernel on every lane, then writes what has changed; this is the function that torch compiles."""
    drawn = draw_lanes(kernels, meta, works(kernels, {name: column[0] for name, column in values.items()}))
    for lane in range(LANES):
        now = {name: column[lane] for name, column in values.items()}
        written: dict[str, Tensor] = {}
        for kernel, numbers, facts, given in zip(kernels, drawn, statistics, hyper, strict=True):
            operands = operands_of(kernel, now)
            made = [n[lane] if n else now[draw.stream] for draw, n in zip(kernel.draws, numbers, strict=True)]
            results = apply(kernel, operands, made, facts, given)
            now.update(results)
            written.update(results)
        for name, result in written.items():
            old = values[name][lane]
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


def draw_lanes(kernels: tuple[Kernel, ...], meta: Tensor, dtypes: list[torch.dtype]) -> list[list[list[Tensor]]]:
    """Draws the numbers of every kernel, lane by lane; none for draws that are given as operands."""
    key, column, drawn = meta[:, None, :2], 2, []
    for kernel, dtype in zip(kernels, dtypes, strict=True):
        numbers = []
        for draw in kernel.draws:
            if draw.like != "rate":
                numbers.append([])
                continue
            each = LANES // lanes(draw.law, dtype)  # Blocks of counters that make the numbers of a group.
            second = meta[:, column + each : column + each + 1]
            firsts = [meta[:, column + block : column + block + 1] for block in range(each)]
            numbers.append([n for first in firsts for n in lane_list(draw.law, *words(key, first, second), dtype)])
            column += each + 1
        drawn.append(numbers)
    return drawn
