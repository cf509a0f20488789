"""Streams: the numbers that belong to a key, a name and an index.

Counters are hashed in blocks of ``LANE``. A block's numbers lie in lanes: first the first number of each counter, then
the second of each, and so on. So no numbers need to be interleaved, and a part of a draw is some whole blocks.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from funcbio._checks import brief, plain_integer, require_dtype, require_key
from funcbio.base import Key
from funcbio.rng._keys import INTEGERS, MOST_COUNTERS, site
from funcbio.rng._laws import UNIFORM, Law, laid_out, lanes
from funcbio.rng._threefry import threefry2x32

LANE = 64  # Counters in a block.
TILE_BLOCKS = 1 << 10  # Blocks hashed at a time outside a compiled graph: their temporaries stay in the cache.
Shape: TypeAlias = Sequence[int]


def blocks(streams: Iterable[str], spans: Iterable[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Makes counter words of blocks of several streams, laid end to end, so that one hash serves them all.

    Args:
        streams: Names of the streams.
        spans: For each stream the first block and the number of blocks.
        device: Where the words live.

    Returns:
        Two int32 tensors of shape ``(blocks, 1)``; the first is to be xor-ed with the counter's place in its block.
    """
    firsts, seconds = [], []
    for stream, (start, count) in zip(streams, spans, strict=True):
        low, high = site(stream)
        firsts.append((torch.arange(start, start + count, dtype=torch.int32, device=device) * LANE) ^ high)
        seconds.append(torch.full((count,), low, dtype=torch.int32, device=device))
    first, second = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (firsts, seconds))
    return first.unsqueeze(-1), second.unsqueeze(-1)


def words(key: Key, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Makes two random words for every counter of some blocks, each of shape ``(blocks, LANE)``."""
    # A bitwise operation first: arithmetic on an arange becomes index arithmetic in the compiler, and overflows.
    return threefry2x32(key, torch.arange(LANE, dtype=torch.int32, device=first.device) ^ first, second)


def block_numbers(law: Law, key: Key, first: Tensor, second: Tensor, dtype: torch.dtype) -> Tensor:
    """Makes the numbers of some blocks, end to end; ``key`` is one for all or one row ``(blocks, 1, 2)`` for each."""
    if len(first) <= TILE_BLOCKS or torch.compiler.is_compiling():
        return laid_out(law, *words(key, first, second), dtype)
    keys = [key] * -(-len(first) // TILE_BLOCKS) if key.ndim == 1 else key.split(TILE_BLOCKS)
    tiles = zip(keys, first.split(TILE_BLOCKS), second.split(TILE_BLOCKS), strict=True)
    return torch.cat([laid_out(law, *words(*tile), dtype) for tile in tiles])


def _plain_draw(shapes: list[Shape], dtype: torch.dtype, offset: int) -> tuple[list[Shape], int]:
    """Returns shapes and offset in integers of Python; raises ValueError if one of them or the type is not valid."""
    require_dtype(dtype)
    shapes = [tuple(map(plain_integer, shape)) if isinstance(shape, tuple | list) else shape for shape in shapes]
    offset = plain_integer(offset)
    for shape in shapes:
        if not isinstance(shape, tuple | list) or not all(map(_is_size, shape)):
            raise ValueError(f"shape should be a sequence of integers >= 0; found {brief(shape)}")
    if not _is_size(offset):
        raise ValueError(f"offset should be an integer >= 0; found {brief(offset)}")
    most = MOST_COUNTERS - LANE  # So that the last block of any law is whole.
    if offset + max(math.prod(shape) for shape in shapes) > most:
        raise ValueError(f"shape and offset should stay within {most} numbers; found {shapes} and {offset}")
    return shapes, offset


def _is_size(size: Any) -> bool:
    return isinstance(size, INTEGERS) and not isinstance(size, bool) and size >= 0


def uniform_at(key: Key, positions: Tensor, *, stream: str) -> Tensor:
    """Draws some of the numbers of a uniform draw in float64: those at positions within it, flattened; int32."""
    require_key(key)
    low, high = site(stream)
    # That law takes one counter for each number.
    return UNIFORM.double(*threefry2x32(key, positions ^ high, torch.full_like(positions, low)))[0]


def words_at(key: Key, shape: Shape, *, stream: str, offset: int = 0) -> tuple[Tensor, Tensor]:
    """Draws two random words for every element, each int32 and of the shape, from the counters of its position."""
    require_key(key)
    (shape,), offset = _plain_draw([shape], torch.float64, offset)
    low, high = site(stream)
    positions = torch.arange(offset, offset + math.prod(shape), dtype=torch.int32, device=key.device) ^ high
    first, second = threefry2x32(key, positions, torch.full_like(positions, low))
    return first.reshape(tuple(shape)), second.reshape(tuple(shape))


def draw(
    law: Law, key: Key, streams: list[str], shapes: list[Shape], *, dtype: torch.dtype, offset: int = 0
) -> list[Tensor]:
    """Draws one tensor for each stream; all of them from one hash."""
    if not shapes:
        return []
    require_key(key)
    shapes, offset = _plain_draw(shapes, dtype, offset)
    size = LANE * lanes(law, dtype)
    start, skip = offset // size, offset % size
    counts = [math.prod(shape) for shape in shapes]
    spans = [(start, (skip + count + size - 1) // size) for count in counts]
    numbers = block_numbers(law, key, *blocks(streams, spans, key.device), dtype).to(dtype)
    parts = numbers.split([size * count for _, count in spans]) if len(shapes) > 1 else [numbers]
    return [
        part[skip : skip + count].reshape(tuple(shape))
        for part, count, shape in zip(parts, counts, shapes, strict=True)
    ]
