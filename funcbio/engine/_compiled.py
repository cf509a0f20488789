"""Kernels compiled: the steps of a pass in one loop over memory, their random numbers made in registers.

One compiled program serves all layers, of any size, and any hyper-parameters. Layers are seen as groups of ``GROUP``
elements: the lanes of a group's numbers come from the same counters, hashed once for all of them. Small layers, and
the incomplete last groups of large ones, run together in a copy.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import outside
from funcbio.engine._fused import programs_for
from funcbio.engine._kernel import FULL, Kernel, bare, optional
from funcbio.engine._layers import Columns, Layer, Step, are_fixed, small_draws
from funcbio.engine._options import OPTIONS
from funcbio.tensors._arithmetic import work_type
from funcbio.tensors._kept import kept

SPREAD = frozenset({"sign", "activity"})
"""Operands that only broadcast with the weight."""
_broken: list[str] = []


def can_fuse(steps: Sequence[Step], layers: Sequence[Layer], columns: Columns) -> bool:
    """Returns True if one loop can run the steps, and is worth the call."""
    if not OPTIONS.compiler or _broken:
        return False
    read = {bare(name) for step in steps for name in step.kernel.reads if not _absent(name, layers[0])}
    whole = read - SPREAD
    # One operation is as good as a program; and operands are laid out only where much else is saved.
    filling = len(steps) == 1 and steps[0].kernel.in_place is not None
    filling |= whole != read and not any(step.kernel.draws for step in steps)
    numeric = all(isinstance(v, int | float | Tensor) for step in steps for v in step.hyper.values())
    flat = all(value.is_contiguous() for name in whole & columns.keys() for value in columns[name])
    return not filling and whole <= FULL and numeric and flat


def _absent(name: str, layer: Layer) -> bool:
    return name.endswith("?") and optional(name, layer.operands.get(bare(name))) is None


class Fused:
    """Runs the steps of a pass by programs.

    Args:
        steps: The steps; see ``can_fuse``.
        layers: Layers that take part in all of them.
        columns: Their tensors: of the shapes, types and layout of all that are to come.
    """

    def __init__(self, steps: Sequence[Step], layers: Sequence[Layer], columns: Columns) -> None:
        self.steps, self.layers = steps, layers
        self.device = columns["weight"][0].device
        # A program takes keys, also where nothing is drawn.
        self.keys = [_no_key(self.device) if layer.key is None else layer.key for layer in layers]
        self.draws_small = any(draw.like != "rate" for step in steps for draw in step.kernel.draws)
        self.numbers = self._numbers() if are_fixed(steps) else None
        columns = self._with_draws(columns)
        absent = frozenset(name for step in steps for name in step.kernel.reads if _absent(name, layers[0]))
        weights = columns["weight"]
        present = [(name, column[0]) for name, column in columns.items() if column[0] is not None]
        self.programs = programs_for(
            tuple([_present(step.kernel, absent) for step in steps]),
            tuple([tuple(step.hyper) for step in steps]),
            tuple([layer.name for layer in layers]),
            tuple([weight.shape for weight in weights]),
            tuple([(name, _type(name, value, weights[0])) for name, value in present]),
            self.device,
        )
        self.programs.make(columns)

    def run(self, columns: Columns, finite: Tensor | None) -> None:
        """Runs the steps on every layer, in place, unless ``finite`` is False."""
        numbers = self._numbers() if self.numbers is None else self.numbers
        flag = _always(self.device) if finite is None else finite
        self.programs.run(self._with_draws(columns), self.keys, numbers, flag)

    def _numbers(self) -> list[Tensor]:
        """Returns all hyper-parameters, in order."""
        device = self.device
        pairs = [(at, step, name, value) for at, step in enumerate(self.steps) for name, value in step.hyper.items()]
        return [_number(value, name in step.kernel.whole, device, (at, name)) for at, step, name, value in pairs]

    def _with_draws(self, columns: Columns) -> Columns:
        """Adds the draws that are smaller than the weights, by their streams, under which a program reads them."""
        if not self.draws_small:
            return columns
        drawn = [(step.kernel.draws, small_draws(step.kernel, self.layers, columns)) for step in self.steps]
        pairs = [pair for draws, made in drawn for pair in zip(draws, made, strict=True)]
        return {**columns, **{draw.stream: numbers for draw, numbers in pairs if numbers is not None}}


def fused(steps: Sequence[Step], layers: Sequence[Layer], columns: Columns) -> Fused | None:
    """Returns what runs the steps of a pass by programs; None, and a warning the first time, if nothing can."""
    if not can_fuse(steps, layers, columns):
        return None
    try:
        return Fused(steps, layers, columns)
    except Exception as error:
        _broken.append(str(error).strip().split("\n")[0])
        warnings.warn(f"compile=True needs a compiler: the methods go on without ({_broken[0]})", stacklevel=outside())
        return None


def _type(name: str, value: Tensor, weight: Tensor) -> torch.dtype:
    """Returns the type in which a program sees an operand."""
    if value.dtype == torch.bool:
        return torch.uint8
    return value.dtype if name in FULL else work_type([weight, value])


@lru_cache(maxsize=256)
def _present(kernel: Kernel, absent: frozenset[str]) -> Kernel:
    """Returns the kernel with the "?" dropped from the names of optional operands that the layers have."""
    reads = tuple(name if name in absent else bare(name) for name in kernel.reads)
    return kernel if reads == kernel.reads else replace(kernel, reads=reads)


def _number(value: Any, counts: bool, device: torch.device, place: tuple[int, str]) -> Tensor:
    """Returns a tensor of its own for each place: torch compiles another program if two inputs are the same tensor."""
    dtype = torch.int64 if counts else torch.float64
    if isinstance(value, Tensor):  # Its number may be another one at the next call.
        return value.detach().to(device, dtype, copy=True)
    return _fixed(value, dtype, device, place)


@kept(256)
def _fixed(value: float, dtype: torch.dtype, device: torch.device, place: tuple[int, str]) -> Tensor:
    del place
    return torch.full((), value, dtype=dtype, device=device)


@kept(16)
def _no_key(device: torch.device) -> Tensor:
    return torch.zeros(2, dtype=torch.int32, device=device)


@kept(16)
def _always(device: torch.device) -> Tensor:
    return torch.ones((), dtype=torch.bool, device=device)
