"""Programs: what torch compiles, once for a sequence of kernels and a type of numbers."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from funcbio.compiling import with_own_code
from funcbio.kernel import Kernel, results_of
from funcbio.rng import lane_list, lanes, words

LANES = 4
"""Lanes of a group: as many numbers as a counter makes in single precision."""
OPTIONS: dict[str, Any] = {"realize_opcount_threshold": 40}
"""How long an expression may grow before the compiler gives it a name: fewer, and one loop becomes several; more, and
compiling takes longer, because an expression is gone through once for each of its uses."""
Lanes = dict[str, list[Tensor]]


class Program:
    """A compiled sequence of kernels.

    Args:
        kernels: Kernels whose operands all have the size of the weight.

    Attributes:
        names: Operands that are read or written, the weight first.
        writes: Operands that are written.
        draws: The draws made within, in order; those not of the weights' size are operands, named as their streams.
        ran: Whether it ran once: then it is compiled.
    """

    def __init__(self, kernels: tuple[Kernel, ...]) -> None:
        reads = [name for kernel in kernels for name in kernel.reads if not name.endswith("?")]
        self.writes = tuple(dict.fromkeys(name for kernel in kernels for name in kernel.writes))
        draws = [draw for kernel in kernels for draw in kernel.draws]
        small = [draw.stream for draw in draws if draw.like != "rate"]
        self.names = tuple(dict.fromkeys(("weight", *reads, *small, *self.writes)))
        self.draws = tuple(draw for draw in draws if draw.like == "rate")
        self.kernels, self.ran = kernels, False
        self.compiled = torch.compile(with_own_code(run_lanes), fullgraph=True, options=OPTIONS)

    def __call__(
        self, values: Lanes, meta: Tensor, known: list[list[Tensor]], hyper: list[dict[str, Tensor]], finite: Tensor
    ) -> None:
        """Runs in place.

        Args:
            values: Of each operand its lanes, tensors of shape ``(groups, LANE)``.
            meta: int32 ``(groups, ...)``: the key of each group's layer, then every draw's counter words.
            known: For each kernel its statistics, each ``(groups, 1)``.
            hyper: For each kernel its hyper-parameters, tensors of no dimensions.
            finite: If False, nothing is written.
        """
        if not self.ran:
            every = [lane for column in values.values() for lane in column]
            for tensor in (*every, meta, *(fact for facts in known for fact in facts)):
                torch._dynamo.mark_dynamic(tensor, 0)
        self.compiled(self.kernels, values, meta, known, hyper, finite)
        self.ran = True


@lru_cache(maxsize=64)
def program(kernels: tuple[Kernel, ...], dtype: torch.dtype, device: str) -> Program:
    """The program of a sequence of kernels for one type of weights and of device: the same one for every model."""
    del dtype, device
    return Program(kernels)


def run_lanes(
    kernels: tuple[Kernel, ...],
    values: Lanes,
    meta: Tensor,
    known: list[list[Tensor]],
    hyper: list[dict[str, Tensor]],
    finite: Tensor,
) -> None:
    """What is compiled: every kernel on every lane, and at the end what has changed is written."""
    weight = values["weight"][0]
    drawn = draw_lanes(kernels, meta, torch.promote_types(weight.dtype, torch.float32))
    for lane in range(LANES):
        now = {name: column[lane] for name, column in values.items()}
        written: dict[str, Tensor] = {}
        for kernel, numbers, facts, given in zip(kernels, drawn, known, hyper, strict=True):
            operands = [None if name.endswith("?") else now[name] for name in kernel.reads]
            told = {"known": tuple(facts)} if facts else {}
            made = [n[lane] if n else now[draw.stream] for draw, n in zip(kernel.draws, numbers, strict=True)]
            results = results_of(kernel.rule(*operands, *made, **told, **given))
            for name, result in zip(kernel.writes, results, strict=True):
                now[name] = written[name] = result
        for name, result in written.items():
            old = values[name][lane]
            if result.dtype == torch.bool:  # New and all False. Bytes from numbers are ten times faster than bools.
                old.copy_(torch.where(result & finite, 1.0, 0.0).to(torch.uint8))
            else:
                old.copy_(torch.where(finite, result, old))


def draw_lanes(kernels: tuple[Kernel, ...], meta: Tensor, dtype: torch.dtype) -> list[list[list[Tensor]]]:
    """The numbers of every kernel's draws, lane by lane; none of those that are operands."""
    key, column, drawn = meta[:, None, :2], 2, []
    for kernel in kernels:
        made = []
        for draw in kernel.draws:
            if draw.like != "rate":
                made.append([])
                continue
            each = LANES // lanes(draw.law, dtype)  # Blocks of counters that make the numbers of a group.
            second = meta[:, column + each : column + each + 1]
            firsts = [meta[:, column + block : column + block + 1] for block in range(each)]
            made.append([n for first in firsts for n in lane_list(draw.law, *words(key, first, second), dtype)])
            column += each + 1
        drawn.append(made)
    return drawn
