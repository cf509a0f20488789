"""Kernels in place: several of them, over the weights of several layers, in as few passes as their statistics allow."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Size, Tensor

from funcbio.engine._kernel import FULL, apply, numbers_of
from funcbio.engine._layers import Columns, Layer, Step, are_fixed, small_draws, take_statistics
from funcbio.engine._noise import Ahead
from funcbio.engine._options import OPTIONS
from funcbio.engine._tiles import Piece, gather, scatter, spread, tile_size, tiles
from funcbio.tensors._kept import is_bare


def passes(steps: Sequence[Step]) -> list[list[Step]]:
    """Groups steps that can share a pass: none needs statistics of tensors that an earlier one of its group writes."""
    groups: list[list[Step]] = []
    for step in steps:
        written = {name for other in (groups[-1] if groups else ()) for name in other.kernel.writes}
        if not groups or (step.kernel.statistics is not None and written.intersection(step.kernel.of)):
            groups.append([])
        groups[-1].append(step)
    return groups


class Pass:
    """Runs the steps of one pass, tile by tile.

    Args:
        steps: The steps; every layer takes part in all of them.
        layers: Plain tensors on one device.
        shapes: The shapes of their weights.
    """

    def __init__(self, steps: Sequence[Step], layers: Sequence[Layer], shapes: tuple[Size, ...]) -> None:
        self.steps, self.layers, self.shapes, self.first = steps, layers, shapes, steps[0].kernel
        self.names, self.keys = [layer.name for layer in layers], [layer.key for layer in layers]
        self.sizes = [math.prod(shape) for shape in shapes]
        large = len(layers) < OPTIONS.joined_layers or sum(self.sizes) > len(layers) * OPTIONS.joined_elements
        self.is_one = len(steps) == 1 and large
        self.is_simple = self.is_one and not self.first.draws and self.first.statistics is None
        self.is_fixed = are_fixed(steps)
        self.made: list[dict[str, Any]] | None = None

    def run(self, columns: Columns, finite: Tensor | None) -> None:
        """Runs the steps.

        Args:
            columns: The layers' tensors, a list by layer for each operand.
            finite: If given and False, nothing is changed.
        """
        if self.is_one and self.first.in_place is not None and finite is None:
            for operands in zip(*(columns[name] for name in self.first.reads), strict=True):
                self.first.in_place(*operands)
            return
        prepared = []
        for step, numbers in zip(self.steps, self._numbers(columns), strict=True):
            small = small_draws(step.kernel, self.layers, columns) if step.kernel.draws else []
            facts = take_statistics(step.kernel, columns) if step.kernel.statistics else []
            prepared.append((small, facts, numbers))
        ahead = Ahead(self.names, self.keys, self.sizes, goes_on=self.layers[0].goes_on)
        for pieces in tiles(self.shapes, tile_size(columns["weight"][0].device), not self.is_simple):
            run_tile(self.steps, ahead, columns, self.shapes, pieces, prepared, finite)

    def _numbers(self, columns: Columns) -> list[dict[str, Any]]:
        """Returns the hyper-parameters of every step, as its rule takes them: made once for all tiles and calls."""
        if self.made is not None:
            return self.made
        device, made = columns["weight"][0].device, []
        for step in self.steps:
            operands = {name: columns[name][0] for name, _ in step.kernel.inputs}
            made.append(numbers_of(step.kernel, step.hyper, step.kernel.work(operands), device))
        if self.is_fixed and is_bare():
            self.made = made
        return made


def run_tile(
    steps: Sequence[Step],
    ahead: Ahead,
    columns: Columns,
    shapes: Sequence[Size],
    pieces: tuple[Piece, ...],
    prepared: Sequence[tuple[Any, Any, dict[str, Any]]],
    finite: Tensor | None,
) -> None:
    """Runs the steps of one pass on one tile."""
    values: dict[str, Any] = {}
    written: dict[str, None] = {}
    first = pieces[0].layer
    for (_, kernel, _, _), (small, statistics, hyper) in zip(steps, prepared, strict=True):
        for name, is_optional in kernel.inputs:
            if name not in values:
                column = columns[name]
                absent = is_optional and (column[first] is None or column[first].ndim == 0)
                values[name] = None if absent else gather(pieces, column, shapes)
        draws = []
        if kernel.draws:
            work = kernel.work(values)
            shape = next(values[name].shape for name in FULL if values.get(name) is not None)
            draws = [
                ahead.numbers(pieces, draw, work).view(shape) if few is None else gather(pieces, few, shapes)
                for draw, few in zip(kernel.draws, small, strict=True)
            ]
        facts = [spread(pieces, column) for column in statistics]
        values.update(apply(kernel, values, draws, facts, hyper))
        written.update(dict.fromkeys(kernel.writes))
    for name in written:
        value = values[name]
        if finite is not None:
            value = torch.where(finite, value, gather(pieces, columns[name], shapes))
        scatter(pieces, value, columns[name])
