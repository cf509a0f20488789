"""Tiles: layers cut into parts that fit the cache, and small layers put together, so that kernels run fast in place."""

import math
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor

from funcbio.base import Key
from funcbio.kernel import Draw
from funcbio.rng import LANE, block_numbers, blocks, lanes

TILE = {"cpu": 1 << 17}
"""Elements of a tile: small enough that the temporaries of a rule stay in the caches, large enough to share."""
WIDE = 1 << 22
"""Elements of a tile on other devices, where launches cost more than memory."""
Index = tuple[slice, ...]


@cache
def keep_freed_memory() -> None:
    """Makes the C library keep what tiles free: else it returns it to the system, to be fetched and cleared anew.

    glibc raises its limits once something as large as this has been freed. Nothing is ever written there.
    """
    torch.empty(7 << 20)


class Piece(NamedTuple):
    """A part of a layer: which layer, where, and its elements in the flattened layer."""

    layer: int
    index: Index
    start: int
    count: int


def cut(shape: Sequence[int], size: int, index: Index = (), start: int = 0) -> Iterator[tuple[Index, int, int]]:
    """Cuts a shape into parts of at most ``size`` elements that are each contiguous in the whole."""
    count = math.prod(shape)
    if count <= size:
        yield index, start, count
        return
    row = count // shape[0]
    if row > size:
        for i in range(shape[0]):
            yield from cut(shape[1:], size, (*index, slice(i, i + 1)), start + i * row)
        return
    rows = size // row
    for first in range(0, shape[0], rows):
        yield (*index, slice(first, first + rows)), start + first * row, min(rows, shape[0] - first) * row


@lru_cache(maxsize=256)
def tiles(shapes: tuple[Size, ...], size: int, together: bool) -> tuple[tuple[Piece, ...], ...]:
    """Lays layers out in tiles: parts of one layer, or, if ``together``, several small layers."""
    found: list[tuple[Piece, ...]] = []
    pack: list[Piece] = []
    for layer, shape in enumerate(shapes):
        count = math.prod(shape)
        if not together or 2 * count > size:
            found += [(Piece(layer, *part),) for part in cut(shape, size)]
            continue
        if sum(piece.count for piece in pack) + count > size:
            found.append(tuple(pack))
            pack = []
        pack.append(Piece(layer, (), 0, count))
    return (*found, tuple(pack)) if pack else tuple(found)


def part(value: Tensor, index: Index) -> Tensor:
    """The part of a tensor, or of one that broadcasts with the layer, at a piece."""
    if not index:
        return value
    return value[tuple(at if size > 1 else slice(None) for at, size in zip(index, value.shape, strict=False))]


def gather(pieces: Sequence[Piece], values: Sequence[Any], shapes: Sequence[Size]) -> Any:
    """One operand of a tile: a view for a single piece, a flat copy for several."""
    if len(pieces) == 1:
        return part(values[pieces[0].layer], pieces[0].index)
    return torch.cat([values[piece.layer].expand(shapes[piece.layer]).reshape(-1) for piece in pieces])


def spread(pieces: Sequence[Piece], values: Sequence[Tensor]) -> Tensor:
    """One number of each layer, laid out over the elements of a tile."""
    if len(pieces) == 1:
        return values[pieces[0].layer]
    counts = _counts(tuple(piece.count for piece in pieces), values[0].device)
    chosen = torch.stack([values[piece.layer] for piece in pieces])
    return chosen.repeat_interleave(counts, output_size=sum(piece.count for piece in pieces))


def scatter(pieces: Sequence[Piece], value: Tensor, targets: Sequence[Tensor]) -> None:
    """Writes a tile's result to where it belongs."""
    if len(pieces) == 1:
        part(targets[pieces[0].layer], pieces[0].index).copy_(value)
        return
    parts = value.split([piece.count for piece in pieces])
    places = [targets[piece.layer] for piece in pieces]
    torch._foreach_copy_(places, [new.view(old.shape) for new, old in zip(parts, places, strict=True)])


def numbers(
    pieces: Sequence[Piece], draw: Draw, names: Sequence[str], keys: Sequence[Key], shape: Size, dtype: torch.dtype
) -> Tensor:
    """A draw's numbers for a tile, the same as in a draw of whole layers; ``shape`` is that of a single piece."""
    size = LANE * lanes(draw.law, dtype)
    streams = tuple(f"{draw.stream}/{names[piece.layer]}" for piece in pieces)
    spans = tuple((p.start // size, (p.start % size + p.count + size - 1) // size) for p in pieces)
    device = keys[0].device
    if len(pieces) == 1:
        skip, count = pieces[0].start % size, pieces[0].count
        words = blocks(streams, spans, device)
        return block_numbers(draw.law, keys[pieces[0].layer], *words, dtype)[skip : skip + count].view(shape)
    first, second, owner, counts = _words(streams, spans, tuple(piece.count for piece in pieces), size, device)
    chosen = torch.stack([keys[piece.layer] for piece in pieces]).index_select(0, owner)
    drawn = block_numbers(draw.law, chosen.unsqueeze(1), first, second, dtype).split(counts)
    return torch.cat(drawn[::2])


@lru_cache(maxsize=256)
def _words(
    streams: tuple[str, ...], spans: tuple[tuple[int, int], ...], counts: tuple[int, ...], size: int, device: Any
) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Counter words of several layers' blocks, which layer each is of, and the lengths of what is used and is not."""
    first, second = blocks(streams, spans, device)
    owner = torch.tensor([i for i, (_, count) in enumerate(spans) for _ in range(count)], device=device)
    lengths = [n for (_, span), count in zip(spans, counts, strict=True) for n in (count, span * size - count)]
    return first, second, owner, lengths


@lru_cache(maxsize=256)
def _counts(counts: tuple[int, ...], device: Any) -> Tensor:
    return torch.tensor(counts, device=device)
