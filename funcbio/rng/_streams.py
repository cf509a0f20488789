"""Streams: the numbers that belong to a key, a name and an index."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from funcbio.base import Key
from funcbio.checks import require_dtype, require_key
from funcbio.rng._keys import INTEGERS, MOST, counters, site
from funcbio.rng._threefry import threefry2x32

TILE = 1 << 17  # Counters hashed at a time outside a compiled graph: their temporaries stay in the cache.
Shape: TypeAlias = Sequence[int]
Transform: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _hash(key: Key, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    if low.numel() <= TILE or torch.compiler.is_compiling():
        return threefry2x32(key, low, high)
    tiles = [threefry2x32(key, *pair) for pair in zip(low.split(TILE), high.split(TILE), strict=True)]
    first, second = zip(*tiles, strict=True)
    return torch.cat(first), torch.cat(second)


def _unit_pairs(key: Key, low: Tensor, high: Tensor, dtype: torch.dtype, bits: int) -> tuple[Tensor, Tensor]:
    """Two numbers in [0, 1) for each counter, with ``bits`` random bits each."""
    first, second = _hash(key, low, high)
    if dtype != torch.float64:
        return _fraction(first, bits, dtype), _fraction(second, bits, dtype)
    third, fourth = _hash(key, low, high ^ 1)
    return _fraction64(first, second), _fraction64(third, fourth)


def _top(word: Tensor, bits: int) -> Tensor:
    return torch.bitwise_right_shift(word, 32 - bits) & ((1 << bits) - 1)


def _fraction(word: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    return _top(word, bits).to(dtype) * 2.0**-bits


def _fraction64(first: Tensor, second: Tensor) -> Tensor:
    return (_top(first, 27).to(torch.float64) * 2.0**26 + _top(second, 26).to(torch.float64)) * 2.0**-53


def box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normal numbers from two uniform ones."""
    radius = torch.sqrt(-2.0 * torch.log1p(-first))
    angle = 2.0 * math.pi * second
    return radius * torch.cos(angle), radius * torch.sin(angle)


def identity(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The two uniform numbers as they are."""
    return first, second


def _require_draw(shapes: list[Shape], dtype: torch.dtype, offset: int) -> None:
    """Raises ValueError if there is no such draw."""
    require_dtype(dtype)
    for shape in shapes:
        if not isinstance(shape, tuple | list) or not all(isinstance(size, INTEGERS) and size >= 0 for size in shape):
            raise ValueError(f"shape should be a sequence of integers >= 0; found {shape!r}")
    if not isinstance(offset, INTEGERS) or offset < 0:
        raise ValueError(f"offset should be an integer >= 0; found {offset!r}")
    if offset + max(math.prod(shape) for shape in shapes) > 2 * MOST - 2:
        raise ValueError(f"shape and offset should stay within {2 * MOST - 2} numbers; found {shapes} and {offset}")


def draw(
    transform: Transform,
    key: Key,
    streams: list[str],
    shapes: list[Shape],
    *,
    dtype: torch.dtype,
    offset: int = 0,
) -> list[Tensor]:
    """One tensor for each stream; all of them from one hash."""
    if not shapes:
        return []
    require_key(key)
    _require_draw(shapes, dtype, offset)
    skip, sizes = offset % 2, [math.prod(shape) for shape in shapes]
    counts = [(skip + size + 1) // 2 for size in sizes]
    low, high = counters([site(stream) for stream in streams], counts, offset // 2, key.device)
    work = torch.float64 if dtype == torch.float64 else torch.float32
    # A uniform in half precision keeps as many bits as the type holds: rounding up would reach 1.
    digits = 24 if transform is box_muller else min(24, 1 - round(math.log2(torch.finfo(dtype).eps)))
    pairs = torch.stack(transform(*_unit_pairs(key, low, high, work, digits)), dim=-1).flatten(-2).to(dtype)
    if len(shapes) == 1:
        return [pairs[skip : skip + sizes[0]].reshape(tuple(shapes[0]))]
    parts = pairs.split([2 * count for count in counts])
    return [
        part[skip : skip + size].reshape(tuple(shape)) for part, size, shape in zip(parts, sizes, shapes, strict=True)
    ]
