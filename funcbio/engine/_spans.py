"""Spans: large layers in parts that a program runs on where they lie, all others whole."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Size, Tensor

from funcbio.engine._lanes import LANES
from funcbio.engine._options import OPTIONS
from funcbio.rng import LANE
from funcbio.tensors._arithmetic import work_type

GROUP = LANES * LANE


class Span(NamedTuple):
    """Describes a part of a layer: the layer's index, its first group, the number of groups and of elements."""

    layer: int
    first: int
    groups: int
    elements: int


def spans(shapes: Sequence[Size], most: int) -> tuple[list[Span], list[Span], list[Span], list[Span]]:
    """Returns small layers, large ones of at most ``most`` whole groups, parts of the others, and what remains."""
    small, whole, parts, rest = [], [], [], []
    for layer, shape in enumerate(shapes):
        count = math.prod(shape)
        if count < OPTIONS.packed_elements:
            small.append(Span(layer, 0, -(-count // GROUP), count))
            continue
        full = count // GROUP
        cuts = [(first, min(most, full - first)) for first in range(0, full, most)]
        made = [Span(layer, first, groups, groups * GROUP) for first, groups in cuts]
        if len(made) == 1 and count == full * GROUP:
            whole += made
            continue
        parts += made
        if count > full * GROUP:
            rest.append(Span(layer, full, 1, count - full * GROUP))
    return small, whole, parts, rest


def part(value: Tensor, span: Span, weight: Tensor) -> Tensor:
    """Returns the elements of a span, flat; a copy if the value only broadcasts with the weight."""
    start, stop = span.first * GROUP, span.first * GROUP + span.elements
    if value.dtype == torch.bool:
        value = value.view(torch.uint8)
    if value.shape == weight.shape:
        return value.detach().view(-1)[start:stop]  # Programs would be told apart by requires_grad.
    row = weight.numel() // weight.shape[0]
    rows = slice(start // row, -(-stop // row))
    wide = value.to(work_type([weight, value])).expand(weight.shape)
    return wide[rows].reshape(-1)[start - rows.start * row :][: stop - start].contiguous()
