"""Kernels compiled: the steps of a pass in one loop over memory, their random numbers made in registers.

One compiled program serves all layers, of any size, and any hyper-parameters. Layers are seen as groups of ``GROUP``
elements: the lanes of a group's numbers come from the same counters, hashed once for all of them. Small layers, and
the incomplete last groups of large ones, run together in a copy.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Size, Tensor

from funcbio.engine._kernel import Draw, Kernel, bare, optional
from funcbio.engine._layers import Columns, Layer, Step, small_draws, take_statistics
from funcbio.engine._options import OPTIONS
from funcbio.engine._program import LANES, Program, program, works
from funcbio.engine._reductions import compiled_reductions
from funcbio.engine._tiles import write_all
from funcbio.rng import LANE, blocks, lanes
from funcbio.tensors._arithmetic import work_type
from funcbio.tensors._kept import is_watched, kept

GROUP = LANES * LANE
PACKED_BELOW = 64 * GROUP
"""A layer of fewer elements is copied together with others: a call costs more than the copy."""
SPREAD = frozenset({"sign", "activity"})
"""Operands that only broadcast with the weight."""
Span = tuple[int, int, int]
"""Layer, first group, number of groups."""
_broken: list[str] = []


def can_fuse(steps: Sequence[Step], layers: Sequence[Layer]) -> bool:
    """Returns True if one loop can run the steps, and is worth the call."""
    read = {bare(name) for step in steps for name in step.kernel.reads if not _absent(name, layers[0])}
    whole = read - SPREAD
    numeric = all(isinstance(v, int | float | Tensor) for step in steps for v in step.hyper.values())
    flat = all(layer.operands[name].is_contiguous() for layer in layers for name in whole if name in layer.operands)
    # One operation is as good as a program; and operands are laid out only where much else is saved.
    filling = len(steps) == 1 and steps[0].kernel.in_place is not None
    filling |= whole != read and not any(step.kernel.draws for step in steps)
    enough = sum(layer.operands["weight"].numel() for layer in layers) >= OPTIONS.compiled_elements
    may = OPTIONS.compiler and not (_broken or is_watched())
    return may and not filling and enough and numeric and flat and whole <= {"weight", "grad", "rate"}


def _absent(name: str, layer: Layer) -> bool:
    return name.endswith("?") and optional(name, layer.operands.get(bare(name))) is None


def _present(kernel: Kernel, layer: Layer) -> Kernel:
    """Returns the kernel with the "?" dropped from the names of optional operands that the layer has."""
    reads = tuple(name if _absent(name, layer) else bare(name) for name in kernel.reads)
    return kernel if reads == kernel.reads else replace(kernel, reads=reads)


def run_fused(steps: Sequence[Step], layers: Sequence[Layer], columns: Columns, finite: Tensor | None) -> bool:
    """Runs the steps of a pass on every layer; returns False, with nothing changed, if they cannot be compiled."""
    if not can_fuse(steps, layers):
        return False
    weights: list[Tensor] = columns["weight"]
    operands = {**columns, **_small_draws(steps, layers, columns)}
    kernels = tuple(_present(step.kernel, layers[0]) for step in steps)
    types = tuple(column[0].dtype for column in operands.values() if column[0] is not None)
    device = weights[0].device
    run = program(kernels, types, device.type)
    hyper = [
        {name: _number(value, name in step.kernel.whole, device, (at, name)) for name, value in step.hyper.items()}
        for at, step in enumerate(steps)
    ]
    spreads = any(value.shape != weights[0].shape for name in run.names for value in operands[name][:1])
    whole, rest = spans(tuple(weight.shape for weight in weights), OPTIONS.spread_groups if spreads else 1 << 40)
    try:
        with compiled_reductions():
            statistics = [take_statistics(step.kernel, columns, len(layers)) for step in steps]
        for span in whole:
            targets = {name: part(operands[name][span[0]], span, weights[span[0]]) for name in run.names}
            _call(run, (span,), targets, layers, statistics, hyper, finite)
        if rest:
            _call_packed(run, rest, operands, layers, statistics, hyper, finite)
    except Exception as error:
        if run.ran:
            raise
        _broken.append(str(error).strip().split("\n")[0])
        warnings.warn(f"compile=True needs a compiler: the methods go on without ({_broken[0]})", stacklevel=7)
        return False
    return True


def _small_draws(steps: Sequence[Step], layers: Sequence[Layer], columns: Columns) -> Columns:
    """Makes the draws that are smaller than the weights, by their streams, under which a program reads them."""
    drawn = [(step.kernel.draws, small_draws(step.kernel, layers, columns)) for step in steps]
    pairs = [pair for draws, made in drawn for pair in zip(draws, made, strict=True)]
    return {draw.stream: numbers for draw, numbers in pairs if numbers is not None}


@lru_cache(maxsize=256)
def spans(shapes: tuple[Size, ...], most: int) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Returns spans of at most ``most`` whole groups of large layers, and a span for the rest of every layer."""
    whole, rest = [], []
    for layer, shape in enumerate(shapes):
        count = math.prod(shape)
        full = count // GROUP if count >= PACKED_BELOW else 0
        whole += [(layer, first, min(most, full - first)) for first in range(0, full, most)]
        if count > full * GROUP:
            rest.append((layer, full, -(-count // GROUP) - full))
    return tuple(whole), tuple(rest)


def part(value: Tensor, span: Span, weight: Tensor) -> Tensor:
    """Returns the elements of a span, flat; a copy if the value only broadcasts with the weight."""
    _, first, count = span
    start, stop = first * GROUP, min((first + count) * GROUP, weight.numel())
    if value.dtype == torch.bool:
        value = value.view(torch.uint8)
    if value.shape == weight.shape:
        return value.detach().view(-1)[start:stop]  # Programs would be told apart by requires_grad.
    row = weight.numel() // weight.shape[0]
    rows = slice(start // row, -(-stop // row))
    wide = value.to(work_type([weight, value])).expand(weight.shape)
    return wide[rows].reshape(-1)[start - rows.start * row :][: stop - start].contiguous()


def _call_packed(run: Program, rest: tuple[Span, ...], columns: Columns, *given: Any) -> None:
    """Runs a program on a copy of some spans, each padded to whole groups, and copies the results back."""
    weights = columns["weight"]
    places = {name: [part(columns[name][at[0]], at, weights[at[0]]) for at in rest] for name in run.names}
    lengths = [place.numel() for place in places[run.names[0]]]
    pads = [span[2] * GROUP - length for span, length in zip(rest, lengths, strict=True)]
    if len(rest) == 1 and rest[0][2] == 1:  # A single group would be a program of its own.
        rest, pads = (rest[0], (rest[0][0], rest[0][1] + 1, 1)), [pads[0] + GROUP]
    packs = {}
    for name, parts in places.items():
        padded = [piece for place, pad in zip(parts, pads, strict=True) for piece in (place, place.new_zeros(pad))]
        packs[name] = torch.cat(padded)
    _call(run, rest, packs, *given)
    for name in run.writes:
        parts = packs[name].split([length for pair in zip(lengths, pads, strict=True) for length in pair])
        write_all(places[name], list(parts[::2]))


def _call(
    run: Program,
    chosen: tuple[Span, ...],
    targets: dict[str, Tensor],
    layers: Sequence[Layer],
    statistics: list[list[list[Tensor]]],
    hyper: list[dict[str, Tensor]],
    finite: Tensor | None,
) -> None:
    """Calls a program on flat memory in whole groups."""
    groups = sum(count for _, _, count in chosen)
    values = {name: [*flat.view(groups, LANES, LANE).unbind(1)] for name, flat in targets.items()}
    device = values["weight"][0].device
    owner = _owner(tuple(count for _, _, count in chosen), device)
    owners = [layers[layer] for layer, _, _ in chosen]
    words = [torch.stack([layer.key for layer in owners]).index_select(0, owner)]
    types = works(run.kernels, {name: lanes[0] for name, lanes in values.items()})
    draws = [(draw, t) for kernel, t in zip(run.kernels, types, strict=True) for draw in kernel.draws]
    for draw, dtype in [(draw, dtype) for draw, dtype in draws if draw.like == "rate"]:
        streams = tuple(f"{draw.stream}/{layer.name}" for layer in owners)
        words.append(_words(draw, streams, tuple(span[1:] for span in chosen), dtype, device))
    spread_out = [
        [torch.stack([column[layer] for layer, _, _ in chosen]).index_select(0, owner).unsqueeze(1) for column in facts]
        for facts in statistics
    ]
    run(values, torch.cat(words, 1), spread_out, hyper, _always(device) if finite is None else finite)


@kept(64)
def _owner(counts: tuple[int, ...], device: torch.device) -> Tensor:
    repeats = torch.tensor(counts, dtype=torch.int64, device=device)
    return torch.arange(len(counts), dtype=torch.int64, device=device).repeat_interleave(repeats)


@kept(64)
def _words(
    draw: Draw, streams: tuple[str, ...], parts: tuple[tuple[int, int], ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Returns the counter words of the groups: first words of the blocks that make up a group, then the second word."""
    each = LANES // lanes(draw.law, dtype)
    first, second = blocks(streams, [(start * each, count * each) for start, count in parts], device)
    return torch.cat((first.view(-1, each), second.view(-1, each)[:, :1]), 1)


def _number(value: Any, counts: bool, device: torch.device, place: tuple[int, str]) -> Tensor:
    """Returns a tensor of its own for each place: torch compiles another program if two inputs are the same tensor."""
    dtype = torch.int64 if counts else torch.float64
    if isinstance(value, Tensor):  # Its number may be another one at the next call.
        return value.detach().to(device, dtype, copy=True)
    return _fixed(value, dtype, device, place)


@kept(256)
def _fixed(value: float, dtype: torch.dtype, device: torch.device, place: tuple[int, str]) -> Tensor:
    del place
    return torch.tensor(value, dtype=dtype, device=device)


@kept(16)
def _always(device: torch.device) -> Tensor:
    return torch.ones((), dtype=torch.bool, device=device)
