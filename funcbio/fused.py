"""Kernels compiled: the steps of a pass in one loop over memory, their random numbers made in registers.

One compiled program serves all layers, of any size, and any hyper-parameters. Layers are seen as groups of ``GROUP``
elements: the lanes of a group's numbers come from the same counters, hashed once for all of them. Small layers, and
what is left of large ones, run together in a copy.
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Size, Tensor

from funcbio.inplace import Columns, Layer, Step, know
from funcbio.kernel import Draw, optional
from funcbio.program import LANES, Program, program
from funcbio.rng import LANE, blocks, lanes
from funcbio.tiles import write_all

GROUP = LANES * LANE
SMALL = 64 * GROUP
"""A layer of fewer elements is copied together with others: a call costs more than the copy."""
Span = tuple[int, int, int]
"""Layer, first group, number of groups."""
_broken: list[str] = []


def can_fuse(steps: Sequence[Step], layers: Sequence[Layer]) -> bool:
    """Whether the steps are of the kind that one loop can run: only over tensors as large as the weights."""
    names = {name for step in steps for name in step.kernel.reads if not _absent(name, layers[0])}
    numeric = all(isinstance(v, float | Tensor) for step in steps for v in step.hyper.values())
    of = {name for step in steps if step.kernel.statistics for name in step.kernel.of}
    flat = all(layer.operands[name].is_contiguous() for layer in layers for name in names if name in layer.operands)
    filling = len(steps) == 1 and steps[0].kernel.fills  # One operation is as good as a program.
    return not _broken and not filling and numeric and flat and names <= {"weight", "grad", "rate"} and of <= {"weight"}


def _absent(name: str, layer: Layer) -> bool:
    return name.endswith("?") and optional(name, layer.operands.get(name.removesuffix("?"))) is None


def run_fused(steps: Sequence[Step], layers: Sequence[Layer], columns: Columns, finite: Tensor | None) -> bool:
    """Runs the steps of a pass on every layer; returns False, with nothing changed, if they cannot be compiled."""
    if not can_fuse(steps, layers):
        return False
    weights: list[Tensor] = columns["weight"]
    run = program(tuple(step.kernel for step in steps), weights[0].dtype, weights[0].device.type)
    known = [know(step.kernel, columns, len(layers)) for step in steps]
    work = torch.promote_types(weights[0].dtype, torch.float32)
    hyper = [{name: _number(float(value), work) for name, value in step.hyper.items()} for step in steps]
    whole, rest = spans(tuple(weight.shape for weight in weights))
    try:
        for span in whole:
            targets = {name: part(columns[name][span[0]], span) for name in run.names}
            _call(run, (span,), targets, layers, known, hyper, finite)
        if rest:
            _call_packed(run, rest, columns, layers, known, hyper, finite)
    except Exception as error:
        if run.ran:
            raise
        _broken.append(str(error).strip().split("\n")[0])
        warnings.warn(f"compile=True needs a compiler: the methods go on without ({_broken[0]})", stacklevel=7)
        return False
    return True


@lru_cache(maxsize=256)
def spans(shapes: tuple[Size, ...]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Whole groups of large layers, and all that is left, its last group of a layer perhaps not full."""
    whole, rest = [], []
    for layer, shape in enumerate(shapes):
        count = math.prod(shape)
        full = count // GROUP if count >= SMALL else 0
        if full:
            whole.append((layer, 0, full))
        if count > full * GROUP:
            rest.append((layer, full, -(-count // GROUP) - full))
    return tuple(whole), tuple(rest)


def part(value: Tensor, span: Span) -> Tensor:
    """The elements of a span, flat."""
    _, first, count = span
    return value.view(-1)[first * GROUP : (first + count) * GROUP]


def _call_packed(run: Program, rest: tuple[Span, ...], columns: Columns, *given: Any) -> None:
    """Runs a program on a copy of some spans, each padded to whole groups, and copies the results back."""
    places = {name: [part(columns[name][span[0]], span) for span in rest] for name in run.names}
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
    known: list[list[list[Tensor]]],
    hyper: list[dict[str, Tensor]],
    finite: Tensor | None,
) -> None:
    """Calls a program on flat memory in whole groups."""
    groups = sum(count for _, _, count in chosen)
    values = {name: [*flat.view(groups, LANES, LANE).unbind(1)] for name, flat in targets.items()}
    weight = values["weight"][0]
    dtype, device = torch.promote_types(weight.dtype, torch.float32), weight.device
    owner = _owner(tuple(count for _, _, count in chosen), device)
    owners = [layers[layer] for layer, _, _ in chosen]
    words = [torch.stack([layer.key for layer in owners]).index_select(0, owner)]
    for draw in run.draws:
        streams = tuple(f"{draw.stream}/{layer.name}" for layer in owners)
        words.append(_words(draw, streams, tuple(span[1:] for span in chosen), dtype, device))
    told = [
        [torch.stack([column[layer] for layer, _, _ in chosen]).index_select(0, owner).unsqueeze(1) for column in facts]
        for facts in known
    ]
    run(values, torch.cat(words, 1), told, hyper, _always(device) if finite is None else finite)


@lru_cache(maxsize=64)
def _owner(counts: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.arange(len(counts), device=device).repeat_interleave(torch.tensor(counts, device=device))


@lru_cache(maxsize=64)
def _words(
    draw: Draw, streams: tuple[str, ...], parts: tuple[tuple[int, int], ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Counter words of the groups: first words of the blocks that make up a group, then the second word."""
    each = LANES // lanes(draw.law, dtype)
    first, second = blocks(streams, [(start * each, count * each) for start, count in parts], device)
    return torch.cat((first.view(-1, each), second.view(-1, each)[:, :1]), 1)


@lru_cache(maxsize=256)
def _number(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype)


@lru_cache(maxsize=16)
def _always(device: torch.device) -> Tensor:
    return torch.ones((), dtype=torch.bool, device=device)
