"""Tensors that share memory: with one another, or one of their elements with another."""

import math
from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from funcbio.tensors._kept import is_watched
from funcbio.tensors._sharding import is_plain, local

Grid = tuple[tuple[int, ...], tuple[int, ...], int]
"""Sizes and strides of a tensor, and the bytes of one element."""
Term = tuple[int, int, int]
"""A step in memory, and how often it may be taken: at least, at most."""


class Part(NamedTuple):
    """Holds the address range of a tensor.

    Attributes:
        start: Address of its first byte.
        end: Address after its last byte.
        tensor: The tensor.
        written: Whether it is going to be written to.
        name: What it is, for messages about overlaps.
    """

    start: int
    end: int
    tensor: Tensor
    written: bool
    name: Hashable


def overlaps_itself(tensor: Tensor) -> bool:
    """Returns True if two elements share memory, as in expanded tensors and in overlapping windows.

    Such a tensor cannot be written to element by element.
    """
    part = local(tensor)
    if part.layout != torch.strided or part.is_contiguous():
        return False
    if torch.compiler.is_compiling():
        return any(size > 1 and step == 0 for size, step in zip(part.shape, part.stride(), strict=True))
    return part.numel() > 0 and _folds(_grid(part))


def storage_of(tensor: Tensor) -> int | None:
    """Returns the address of the storage that a tensor is a view of; None if it cannot be read, as in transforms."""
    if is_watched():
        return None
    try:
        return local(tensor).untyped_storage().data_ptr()
    except RuntimeError:  # Of sparse tensors.
        return None


def part_of(tensor: Tensor, name: Hashable, *, written: bool) -> Part | None:
    """Returns the memory of a tensor; None if it has none, or its address cannot be read."""
    tensor = local(tensor)
    if not is_plain(tensor) or tensor.layout != torch.strided:
        return None
    try:
        start = tensor.data_ptr()
    except RuntimeError:  # Inside vmap and other transforms.
        return None
    extent = tensor.nbytes if tensor.is_contiguous() else _extent(_grid(tensor))
    return Part(start, start + extent, tensor, written, name) if start and tensor.nbytes else None


def find_overlap(parts: Iterable[Part]) -> tuple[Part, Part] | None:
    """Returns two parts that share memory, at least one of them written to; None if there are none.

    Costs a sort of the addresses. Elements are compared only where the spans of two tensors cross, as those of
    neighbouring columns do.
    """
    reaching: list[Part] = []
    for part in sorted(parts, key=lambda part: part.start):
        reaching = [other for other in reaching if other.end > part.start]
        for other in reaching:
            if (part.written or other.written) and _meet(other, part):
                return other, part
        reaching.append(part)
    return None


def _meet(first: Part, second: Part) -> bool:
    a, b = first.tensor, second.tensor
    return a.device == b.device and _cross(_grid(a), _grid(b), second.start - first.start)


def _grid(tensor: Tensor) -> Grid:
    return tuple(tensor.shape), tensor.stride(), tensor.element_size()


def _extent(grid: Grid) -> int:
    shape, strides, size = grid
    return size * (1 + sum((length - 1) * step for length, step in zip(shape, strides, strict=True)))


@lru_cache(maxsize=1024)
def _folds(grid: Grid) -> bool:
    """Returns True if two different indices of a tensor lead to one place."""
    steps = sorted([(step, length - 1) for length, step in zip(*grid[:2], strict=True) if length > 1], reverse=True)
    return any(
        _reaches(0, ((step, 1, most), *((other, -times, times) for other, times in steps[at + 1 :])))
        for at, (step, most) in enumerate(steps)
    )


@lru_cache(maxsize=1024)
def _cross(first: Grid, second: Grid, offset: int) -> bool:
    """Returns True if two tensors have a byte in common; the second begins ``offset`` bytes behind the first."""
    times: dict[int, list[int]] = {1: [1 - second[2], first[2] - 1]}
    for (shape, strides, size), end, sign in ((first, 1, 1), (second, 0, -1)):
        for length, step in zip(shape, strides, strict=True):
            times.setdefault(step * size, [0, 0])[end] += sign * (length - 1)
    return _reaches(offset, tuple((step, *limits) for step, limits in sorted(times.items(), reverse=True)))


@lru_cache(maxsize=1 << 16)
def _reaches(target: int, terms: tuple[Term, ...]) -> bool:
    """Returns True if steps, the largest first, add up to the target."""
    terms = tuple(term for term in terms if term[0])
    if not terms:
        return target == 0
    (step, low, high), *rest = terms
    least, most = (sum(other * limits[end] for other, *limits in rest) for end in (0, 1))
    if target % math.gcd(step, *(other for other, *_ in rest)):
        return False
    first, last = max(low, -((most - target) // step)), min(high, (target - least) // step)
    return any(_reaches(target - number * step, tuple(rest)) for number in range(first, last + 1))
