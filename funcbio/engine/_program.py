"""Programs: loops over memory that are compiled once, for a sequence of kernels and a type of numbers.

A program takes a flat list of tensors. Each axis of them that has another size in other calls has a name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from funcbio.engine._kernel import Kernel
from funcbio.engine._lanes import LANES, draw_lanes, drawn_by, names_of, rows_of, run_lane, write
from funcbio.engine._rows import Rows
from funcbio.engine._statistics import CHUNK
from funcbio.rng import LANE

GROUPS, LAYERS, MOST = "groups", "layers", "most"
"""Axes: groups of numbers, layers, and rows of the layer that has most."""


class Input(NamedTuple):
    """Describes a tensor that a program takes.

    Attributes:
        shape: Sizes of its axes, or their names.
        dtype: Its type.
        kind: What numbers it holds, for an example.
    """

    shape: tuple[int | str, ...]
    dtype: torch.dtype
    kind: str = "number"


@dataclass(frozen=True)
class Loop:
    """Describes the program that runs kernels on layers, in place.

    Attributes:
        kernels: Kernels whose operands all have the size of the weight.
        hyper: For each kernel, the names of its hyper-parameters.
        types: Types of ``names``.
        facts: For each kernel, how many of its statistics are given; -1 if they are taken in the program.
        fact_types: Type of given statistics, for each of them.
    """

    kernels: tuple[Kernel, ...]
    hyper: tuple[tuple[str, ...], ...]
    types: tuple[torch.dtype, ...]
    facts: tuple[int, ...]
    fact_types: tuple[torch.dtype, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the operands that are read or written, the weight first."""
        return names_of(self.kernels)

    @property
    def counts(self) -> bool:
        """Returns True if the program takes statistics itself."""
        return -1 in self.facts

    def inputs(self) -> Iterator[Input]:
        """Yields what the program takes, in order."""
        for name, dtype in zip(self.names, self.types, strict=True):
            for _ in range(LANES):
                yield Input((GROUPS, LANE), dtype, name)
        yield Input((LAYERS, 2), torch.int32, "word")
        yield Input((GROUPS,), torch.int64, "owner")
        draws = [each for draws in drawn_by(self.kernels, self.types) for _, _, each in draws if each]
        yield Input((GROUPS, sum(draws) + len(draws) or 1), torch.int32, "word")
        for dtype in self.fact_types:
            yield Input((LAYERS, 1), dtype)
        if self.counts:
            yield Input((LAYERS, MOST), torch.int64, "table")
            yield Input((GROUPS, 1), torch.int64, "present")
            yield Input((LAYERS, 1), torch.float64, "size")
        for kernel, names in zip(self.kernels, self.hyper, strict=True):
            for name in names:
                yield Input((), torch.int64 if name in kernel.whole else torch.float64, "hyper")
        yield Input((), torch.bool, "true")

    def __call__(self, *inputs: Tensor) -> None:
        """Runs every kernel on every lane, then writes what has changed; this is the function that is compiled."""
        given = iter(inputs)
        values = {name: [next(given) for _ in range(LANES)] for name in self.names}
        keys, owner, counters = next(given), next(given), next(given)
        facts = [[next(given) for _ in range(max(0, number))] for number in self.facts]
        layout = [next(given) for _ in range(3)] if self.counts else []
        hyper = [{name: next(given) for name in names} for names in self.hyper]
        finite = next(given)
        for at, (kernel, number) in enumerate(zip(self.kernels, self.facts, strict=True)):
            if number < 0:
                facts[at] = [*kernel.take_statistics([rows_of(values[name], owner, layout) for name in kernel.of])]
        spread = [[fact.index_select(0, owner) for fact in column] for column in facts]
        drawn = draw_lanes(self.kernels, self.types, keys.index_select(0, owner)[:, None], counters)
        for lane in range(LANES):
            now = {name: column[lane] for name, column in values.items()}
            for name, result in run_lane(self.kernels, now, lane, drawn, spread, hyper).items():
                write(values[name][lane], result, finite)


@dataclass(frozen=True)
class Statistics:
    """Describes the program that takes the statistics of one large layer.

    Attributes:
        kernel: The kernel whose statistics they are, of operands of the weight's size.
        types: Types of the operands.
    """

    kernel: Kernel
    types: tuple[torch.dtype, ...]

    def inputs(self) -> Iterator[Input]:
        """Yields what the program takes, in order: rows, the remaining elements, how many they are, and all are."""
        for name, dtype in zip(self.kernel.of, self.types, strict=True):
            yield Input((GROUPS, CHUNK), dtype, name)
            yield Input((1, CHUNK), dtype, name)
        yield Input((), torch.int64, "present")
        yield Input((), torch.float64, "size")

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the statistics, of no dimensions; this is the function that is compiled."""
        *operands, present, size = inputs
        mask = torch.arange(CHUNK, device=present.device)[None] < present
        pairs = zip(operands[::2], operands[1::2], strict=True)
        taken = self.kernel.take_statistics([Rows(pair, (None, mask), size) for pair in pairs])
        return tuple([fact.clone() for fact in taken])


Program = Loop | Statistics
