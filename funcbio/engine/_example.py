"""Examples of what programs take: to compile at one size, and to check at another."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from funcbio.engine._lanes import LANES
from funcbio.engine._program import GROUPS, LAYERS, MOST, Input, Program
from funcbio.rng import LANE

SIZES = {GROUPS: 1031, LAYERS: 5, MOST: 11}
"""Sizes to compile at: none is another's, and the loop over groups is long enough to be shared by threads."""
SECOND = {GROUPS: 29, LAYERS: 3, MOST: 17}
"""Sizes to check at."""


def example(program: Program, sizes: Mapping[str, int]) -> list[Tensor]:
    """Makes inputs of given sizes, the same in every process."""
    generator = torch.Generator().manual_seed(sizes[GROUPS])
    made = []
    for one in program.inputs():
        shape = [sizes[size] if isinstance(size, str) else size for size in one.shape]
        made.append(_filled(one, shape, sizes, generator))
    return made


def _filled(one: Input, shape: Sequence[int], sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
    """Returns an example of an input."""
    if one.kind == "word":
        return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32, generator=generator)
    if one.kind == "owner":
        return torch.arange(shape[0]) * sizes[LAYERS] // shape[0]
    if one.kind == "table":
        owner = torch.arange(sizes[GROUPS]) * sizes[LAYERS] // sizes[GROUPS]
        rows = [(owner == layer).nonzero().flatten()[: shape[1]] for layer in range(shape[0])]
        return torch.nn.utils.rnn.pad_sequence([*rows, torch.zeros(shape[1])], True, -1)[:-1].long()
    if one.kind in ("present", "size"):
        return torch.full(shape, 200, dtype=one.dtype)
    if one.kind == "true":
        return torch.ones(shape, dtype=one.dtype)
    if one.kind == "hyper":
        return torch.full(shape, 1 if one.dtype == torch.int64 else 0.5, dtype=one.dtype)
    # Lanes of groups, as in memory: a program is made for these strides, too.
    wide = [shape[0], LANES, *shape[1:]] if LANE in shape else shape
    values = torch.rand(wide, generator=generator)
    if one.kind in ("grad", "weight"):
        values = (values - 0.5) * 0.1
    return values.to(one.dtype)[:, 0] if LANE in shape else values.to(one.dtype)
