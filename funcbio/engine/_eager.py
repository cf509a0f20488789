"""Kernels in place: several of them, over the weights of several layers, in as few passes as their statistics allow."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Size, Tensor

from funcbio.engine._kernel import apply
from funcbio.engine._layers import Columns, Layer, Step, small_draws, take_statistics
from funcbio.engine._noise import Ahead
from funcbio.engine._tiles import Piece, gather, keep_freed_memory, scatter, spread, tile_size, tiles

FULL = ("weight", "grad", "rate")
"""Operands with an element for each of the weight's: every kernel that draws reads one."""
Runner = Callable[[Sequence[Step], Sequence[Layer], Columns, Tensor | None], bool]


def passes(steps: Sequence[Step]) -> list[list[Step]]:
    """Groups steps that can share a pass: none needs statistics of tensors that an earlier one of its group writes."""
    groups: list[list[Step]] = []
    for step in steps:
        written = {name for other in (groups[-1] if groups else ()) for name in other.kernel.writes}
        if not groups or (step.kernel.statistics is not None and written.intersection(step.kernel.of)):
            groups.append([])
        groups[-1].append(step)
    return groups


@torch.no_grad()
def run_in_place(
    steps: Sequence[Step], layers: Sequence[Layer], finite: Tensor | None = None, runner: Runner | None = None
) -> Columns:
    """Runs steps one after the other on every layer, and writes what they change into the layers' tensors.

    Args:
        steps: Every layer must take part in every step.
        layers: Plain tensors on one device.
        finite: If given and False, nothing is changed; a tensor, so that the device need not be asked.
        runner: Another way to run a pass; it returns False where it cannot.

    Returns:
        The operands of the steps, a list by layer each; ``replaced`` is new if a step writes it.
    """
    keep_freed_memory()
    names = {"weight"}.union(*(step.needs for step in steps))  # Layers may bring more, and not all of them the same.
    columns: Columns = {name: [layer.operands[name] for layer in layers] for name in sorted(names)}
    if any("replaced" in step.kernel.writes for step in steps):
        columns["replaced"] = [torch.zeros_like(weight, dtype=torch.bool) for weight in columns["weight"]]
    for group in passes(steps) if len(steps) > 1 else (steps,):
        if runner is None or not runner(group, layers, columns, finite):
            run_pass(group, layers, columns, finite)
    return columns


def run_pass(steps: Sequence[Step], layers: Sequence[Layer], columns: Columns, finite: Tensor | None) -> None:
    """Runs the steps of one pass, tile by tile."""
    first = steps[0].kernel
    if len(steps) == 1 and first.in_place is not None and finite is None:
        for layer in range(len(layers)):
            first.in_place(*(columns[name][layer] for name in first.reads))
        return
    weights: list[Tensor] = columns["weight"]
    shapes = tuple(weight.shape for weight in weights)
    simple = len(steps) == 1 and not first.draws and first.statistics is None
    small = [small_draws(step.kernel, layers, columns) if step.kernel.draws else [] for step in steps]
    statistics = [
        take_statistics(step.kernel, columns, len(layers)) if step.kernel.statistics else [] for step in steps
    ]
    names, keys = [layer.name for layer in layers], [layer.key for layer in layers]
    ahead = Ahead(names, keys, [weight.numel() for weight in weights], goes_on=layers[0].goes_on)
    prepared = list(zip(small, statistics, strict=True))
    for pieces in tiles(shapes, tile_size(weights[0].device), not simple):
        run_tile(steps, ahead, columns, shapes, pieces, prepared, finite)


def run_tile(
    steps: Sequence[Step],
    ahead: Ahead,
    columns: Columns,
    shapes: Sequence[Size],
    pieces: tuple[Piece, ...],
    prepared: list[tuple[list[list[Tensor] | None], list[list[Tensor]]]],
    finite: Tensor | None,
) -> None:
    """Runs the steps of one pass on one tile."""
    values: dict[str, Any] = {}
    written: dict[str, None] = {}
    first = pieces[0].layer
    for (_, kernel, hyper, _), (small, statistics) in zip(steps, prepared, strict=True):
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
