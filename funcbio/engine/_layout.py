"""Layouts: all that a program has to know of the spans that it runs on."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from funcbio.engine._kernel import Kernel
from funcbio.engine._lanes import drawn_by, takes_own
from funcbio.engine._packages import Runner, runner
from funcbio.engine._program import Loop
from funcbio.engine._spans import GROUP, Span
from funcbio.rng import blocks

Facts = list[list[dict[int, Tensor]]]
"""For each kernel its statistics, each by layer."""


class Loops:
    """Runs a loop of kernels on spans; knows its program once it knows which statistics it is given."""

    def __init__(self, kernels: tuple[Kernel, ...], hyper: Any, types: tuple[torch.dtype, ...], *, own: bool) -> None:
        self.kernels, self.hyper, self.types, self.own = kernels, hyper, types, own
        self.given = [kernel.statistics is not None and not (own and takes_own(kernel)) for kernel in kernels]
        self.runners: dict[Any, Runner] = {}

    def taken(self, facts: Facts) -> Facts:
        """Returns the statistics that the program does not take itself."""
        return [columns if given else [] for columns, given in zip(facts, self.given, strict=True)]

    def runner(self, facts: Facts, device: str) -> Runner:
        """Returns the program for given statistics."""
        types = tuple([next(iter(column.values())).dtype for columns in facts for column in columns])
        counts = tuple([len(columns) for columns in facts])
        found = self.runners.get((types, counts))
        if found is None:
            taken = [-1 if self.own and takes_own(k) else n for k, n in zip(self.kernels, counts, strict=True)]
            loop = Loop(self.kernels, self.hyper, self.types, tuple(taken), types)
            found = self.runners[types, counts] = runner(loop, device)
        return found


class Layout:
    """Holds what a program has to know of some spans: whose they are, and their counters.

    Attributes:
        owner: The span of each group.
        counters: Counter words of each group.
        table: The groups of each span.
        present: How many elements each group has.
        sizes: How many elements each span has.
    """

    def __init__(self, loops: Loops, names: Sequence[str], chosen: Sequence[Span], device: torch.device) -> None:
        self.chosen, self.count = chosen, max(2, len(chosen))
        counts = [span.groups for span in chosen]
        self.groups = max(2, sum(counts))
        pad = self.groups - sum(counts)
        owner = [at for at, groups in enumerate(counts) for _ in range(groups)] + [self.count - 1] * pad
        self.owner = torch.tensor(owner, dtype=torch.int64, device=device)
        self.counters = self._counters(loops, names, pad, device)
        self.first = [*accumulate(counts, initial=0)][:-1]
        self.layout = self._layout(counts, device) if loops.own else []

    def inputs(
        self, operands: Sequence[Tensor], given: Sequence[Tensor], hyper: Sequence[Tensor], finite: Tensor
    ) -> list[Tensor]:
        """Returns what a program takes, in order; ``operands`` are lanes and keys, ``given`` the statistics."""
        return [*operands, self.owner, self.counters, *given, *self.layout, *hyper, finite]

    def _counters(self, loops: Loops, names: Sequence[str], pad: int, device: torch.device) -> Tensor:
        columns = []
        for draw, _, each in [item for draws in drawn_by(loops.kernels, loops.types) for item in draws]:
            if each:
                streams = [f"{draw.stream}/{names[span.layer]}" for span in self.chosen]
                parts = [(span.first * each, span.groups * each) for span in self.chosen]
                first, second = blocks(streams, parts, device)
                columns += [first.view(-1, each), second.view(-1, each)[:, :1]]
        made = torch.cat(columns, 1) if columns else self.owner.new_zeros((self.groups - pad, 1), dtype=torch.int32)
        return torch.cat((made, made.new_zeros(pad, made.shape[1]))).contiguous()

    def _layout(self, counts: Sequence[int], device: torch.device) -> list[Tensor]:
        most = max(2, *counts)
        table = torch.full((self.count, most), -1, dtype=torch.int64)
        present = torch.zeros(self.groups, 1, dtype=torch.int64)
        sizes = torch.ones(self.count, 1, dtype=torch.float64)
        for at, (span, first) in enumerate(zip(self.chosen, self.first, strict=True)):
            table[at, : span.groups] = torch.arange(first, first + span.groups)
            present[first : first + span.groups] = GROUP
            present[first + span.groups - 1] = span.elements - (span.groups - 1) * GROUP
            sizes[at] = span.elements
        return [table.to(device), present.to(device), sizes.to(device)]
