"""Tiles: layers cut into parts that fit the cache, and small layers put together, so that kernels run fast in place."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Size, Tensor

from funcbio.engine._options import OPTIONS
from funcbio.tensors._kept import kept

FEW_PIECES = 16
"""Pieces up to which one call for each is faster than one clever call for all."""
Index = tuple[slice, ...]


def tile_size(device: torch.device) -> int:
    """Returns the number of elements of a tile on a device."""
    return OPTIONS.tile_elements if device.type == "cpu" else OPTIONS.launch_elements


@kept(1)
def keep_freed_memory() -> None:
    """Makes the C library keep memory that tiles free: else the system takes it back, and clears it anew.

    glibc raises its limits once something as large as this has been freed. Nothing is ever written there.
    """
    torch.empty(7 << 20, dtype=torch.float32, device="cpu")


@dataclass(frozen=True)
class Piece:
    """Describes a part of a layer: the index of the layer, the place, and its elements in the flattened layer."""

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
    laid_out: list[tuple[Piece, ...]] = []
    pack: list[Piece] = []
    for layer, shape in enumerate(shapes):
        count = math.prod(shape)
        if not together or 2 * count > size:
            laid_out += [(Piece(layer, *part),) for part in cut(shape, size)]
            continue
        if sum(piece.count for piece in pack) + count > size:
            laid_out.append(tuple(pack))
            pack = []
        pack.append(Piece(layer, (), 0, count))
    return (*laid_out, tuple(pack)) if pack else tuple(laid_out)


def part(value: Tensor, index: Index) -> Tensor:
    """Returns the part of a tensor, or of one that broadcasts with the layer, at a piece."""
    if not index:
        return value
    return value[tuple(at if size > 1 else slice(None) for at, size in zip(index, value.shape, strict=False))]


def parts_of(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors of one shape into parts, in the same places: large ones, for operations that need no tile."""
    if tensors[0].numel() <= OPTIONS.part_elements:
        yield tensors
        return
    for index, _, _ in cut(tensors[0].shape, OPTIONS.part_elements):
        yield tuple(part(tensor, index) for tensor in tensors)


def gather(pieces: Sequence[Piece], values: Sequence[Any], shapes: Sequence[Size]) -> Any:
    """Returns one operand of a tile: a view for a single piece, a flat copy for several."""
    if len(pieces) == 1:
        return part(values[pieces[0].layer], pieces[0].index)
    chosen = [(values[piece.layer], shapes[piece.layer]) for piece in pieces]
    return torch.cat([(v if v.shape == shape else v.expand(shape)).reshape(-1) for v, shape in chosen])


def spread(pieces: Sequence[Piece], values: Sequence[Tensor]) -> Tensor:
    """Lays one number of each layer out over the elements of a tile."""
    if len(pieces) == 1:
        return values[pieces[0].layer]
    if len(pieces) <= FEW_PIECES:
        return torch.cat([values[piece.layer].expand(piece.count) for piece in pieces])
    counts = _counts(tuple(piece.count for piece in pieces), values[0].device)
    chosen = torch.stack([values[piece.layer] for piece in pieces])
    return chosen.repeat_interleave(counts, output_size=sum(piece.count for piece in pieces))


def scatter(pieces: Sequence[Piece], value: Tensor, targets: Sequence[Tensor]) -> None:
    """Writes a tile's result to the places of its pieces."""
    if len(pieces) == 1:
        part(targets[pieces[0].layer], pieces[0].index).copy_(value)
        return
    parts = value.split([piece.count for piece in pieces])
    places = [targets[piece.layer] for piece in pieces]
    write_all(places, [new.view(old.shape) for new, old in zip(parts, places, strict=True)])


def write_all(places: list[Tensor], values: list[Tensor]) -> None:
    """Copies values to their places, in one call."""
    torch._foreach_copy_(places, values)  # pyright: ignore[reportPrivateImportUsage]


@kept(256)
def _counts(counts: tuple[int, ...], device: Any) -> Tensor:
    return torch.tensor(counts, dtype=torch.int64, device=device)
