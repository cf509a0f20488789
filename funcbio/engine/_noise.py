"""Draws ahead: numbers for more than one tile, or more than one call, are made at once, in fewer and larger operations.

They are the same numbers, bit for bit: every one is a function of its key, its stream and its index.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.base import Key
from funcbio.engine._kernel import Draw
from funcbio.engine._options import OPTIONS
from funcbio.engine._tiles import Piece
from funcbio.rng import LANE, block_numbers, blocks, lanes, step_of
from funcbio.tensors._kept import is_bare, kept


class Ahead:
    """Makes draws for the tiles of one pass.

    Args:
        names: Names of the layers' weights.
        keys: Their keys.
        sizes: How many elements each of them has.
        goes_on: Whether the keys are going to move on, call by call, so that later numbers are worth keeping.
    """

    def __init__(self, names: Sequence[str], keys: Sequence[Key], sizes: Sequence[int], *, goes_on: bool) -> None:
        self.names, self.keys, self.sizes, self.goes_on = names, keys, sizes, goes_on
        self.made: dict[Draw, tuple[int, int, Tensor]] = {}

    def numbers(self, pieces: Sequence[Piece], draw: Draw, dtype: torch.dtype) -> Tensor:
        """Returns a draw's numbers for a tile, flat, in float32 or float64; the same as in a draw of whole layers."""
        if len(pieces) > 1:
            return self._together(pieces, draw, dtype)
        layer, start, count = pieces[0].layer, pieces[0].start, pieces[0].count
        most = OPTIONS.drawn_elements
        firsts = range(start - start % most, start + count, most)
        chunks = [self._chunk(draw, layer, first, dtype) for first in firsts]
        parts = [
            chunk[max(start - first, 0) : start + count - first] for chunk, first in zip(chunks, firsts, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _chunk(self, draw: Draw, layer: int, first: int, dtype: torch.dtype) -> Tensor:
        """Returns the numbers of a layer from ``first`` on; the last ones made if they are asked for again."""
        at, begin, chunk = self.made.get(draw, (-1, -1, torch.empty(0)))
        if (at, begin) != (layer, first):
            size, key = LANE * lanes(draw.law, dtype), self.keys[layer]
            number = -(-min(OPTIONS.drawn_elements, self.sizes[layer] - first) // size)
            words = blocks([f"{draw.stream}/{self.names[layer]}"], [(first // size, number)], key.device)
            chunk = block_numbers(draw.law, key, *words, dtype)
            self.made[draw] = layer, first, chunk
        return chunk

    def _together(self, pieces: Sequence[Piece], draw: Draw, dtype: torch.dtype) -> Tensor:
        """Returns the numbers of several small layers; on a CPU, those of the next calls are made as well."""
        size, device = LANE * lanes(draw.law, dtype), self.keys[0].device
        streams = tuple([f"{draw.stream}/{self.names[piece.layer]}" for piece in pieces])
        words = _words(streams, tuple([piece.count for piece in pieces]), size, device)
        chosen = [self.keys[piece.layer] for piece in pieces]
        calls = OPTIONS.drawn_elements // (len(words.first) * size) if device.type == "cpu" else 1
        if calls < 2 or not self.goes_on or not is_bare():
            return _drawn(draw, torch.stack(chosen), words, dtype, 1)[0]
        keys = torch.stack(chosen)
        owner = chosen[0].data_ptr(), streams, words.lengths, draw, dtype
        return _remembered(owner, keys, lambda number: _drawn(draw, keys, words, dtype, number), calls)


class Words(NamedTuple):
    """Holds the counters of several layers' numbers.

    Attributes:
        first: First words, one for each block of numbers.
        second: Second words.
        owner: Index of the layer that a block belongs to.
        lengths: For each layer in turn, how many of its numbers are used, and how many are left over.
    """

    first: Tensor
    second: Tensor
    owner: Tensor
    lengths: tuple[int, ...]


@kept(256)
def _words(streams: tuple[str, ...], counts: tuple[int, ...], size: int, device: Any) -> Words:
    spans = [(0, -(-count // size)) for count in counts]
    each = [i for i, (_, number) in enumerate(spans) for _ in range(number)]
    owner = torch.tensor(each, dtype=torch.int64, device=device)
    lengths = tuple(n for (_, span), count in zip(spans, counts, strict=True) for n in (count, span * size - count))
    return Words(*blocks(streams, spans, device), owner, lengths)


def _drawn(draw: Draw, keys: Tensor, words: Words, dtype: torch.dtype, calls: int) -> list[Tensor]:
    """Draws the numbers of this call and of those that follow, with keys that move on as after a call."""
    steps = torch.arange(calls, dtype=torch.int32, device=keys.device).view(-1, 1, 1) * step_of(keys.device)
    each = (keys + steps).index_select(1, words.owner).view(-1, 1, 2)
    first, second = (word.repeat(calls, 1) for word in words[:2])
    drawn = block_numbers(draw.law, each, first, second, dtype).view(calls, -1)
    return [torch.cat(row.split(words.lengths)[::2]) for row in drawn]


_memory: OrderedDict[Any, tuple[Tensor, list[Tensor]]] = OrderedDict()


def _remembered(owner: Any, keys: Tensor, drawn: Callable[[int], list[Tensor]], calls: int) -> Tensor:
    """Returns the owner's next kept numbers if they were made for these keys; else draws new ones."""
    expected, waiting = _memory.pop(owner, (keys, []))
    if not torch.equal(expected, keys):
        waiting, calls = [], 1  # Somebody sets keys: numbers of later calls may never be asked for.
    waiting = waiting or drawn(calls)[::-1]
    numbers = waiting.pop()
    _memory[owner] = keys + step_of(keys.device), waiting
    while len(_memory) > OPTIONS.drawn_sets:
        _memory.popitem(last=False)
    return numbers
