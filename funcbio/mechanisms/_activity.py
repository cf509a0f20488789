"""Activity: counting how often every unit of a layer was active."""

import torch
from torch import Tensor

from funcbio._checks import FLOATING, require_numbers
from funcbio.anatomy._synapses import unit_axis
from funcbio.engine._tiles import tile_size
from funcbio.tensors._kept import is_watched
from funcbio.tensors._outputs import parts
from funcbio.tensors._sharding import is_distributed

THRESHOLD = 0.01
SMALL = 2**12
"""Up to so many numbers the plain expression is the fastest."""
LEAST = 16
"""A piece holds so many outputs of every unit at least: fewer would cost more to add up than to count."""


def count_active(output: Tensor, *, dim: int, threshold: float = THRESHOLD) -> Tensor:
    """Counts, for every unit, the outputs of magnitude over ``threshold``.

    Args:
        output: A layer's output, any number of leading and spatial dimensions. It may be nested, in examples of
            different lengths, or quantized.
        dim: The dimension of the units.
        threshold: Magnitude over which an output counts as active.

    Returns:
        int64 tensor of shape ``(units,)``.

    Raises:
        ValueError: If ``output`` has no dimension ``dim``, or its examples do not share it.

    Example:
        >>> count_active(torch.tensor([[0.0, 1.0], [0.5, -2.0]]), dim=-1)
        tensor([1, 2])
    """
    require_numbers(threshold=threshold)
    dim = unit_axis(output, dim, "output") - output.ndim
    counts = [_count(part, dim, threshold) for part in parts(output.detach())]
    return counts[0] if len(counts) == 1 else torch.stack(counts).sum(0)


def _count(output: Tensor, dim: int, threshold: float) -> Tensor:
    """Counts in a dense output; ``dim`` is counted from the end."""
    others = [d for d in range(output.ndim) if d != dim % output.ndim]
    if others and _fits_pieces(output) and not isinstance(threshold, Tensor):
        piece = max(tile_size(output.device), LEAST * output.shape[dim])
        return _count_in_pieces(output, others, threshold, piece)
    active = output.abs() > threshold
    return active.sum(others) if others else active.long()


def _fits_pieces(output: Tensor) -> bool:
    """Returns True if an output should be counted in pieces: not in a graph, which has one expression for all sizes."""
    return not is_watched() and output.numel() > SMALL and output.dtype in FLOATING and not is_distributed(output)


def _count_in_pieces(output: Tensor, others: list[int], threshold: float, piece: int) -> Tensor:
    """Cuts the output along ``others`` and adds up counts; only one piece at a time needs memory."""
    cut, numbers = next((d for d in others if output.shape[d] > 1), None), output.numel()
    if numbers <= piece or cut is None:
        # Ones and zeros of the output's own type: their sum is several times faster than that of truth values.
        active = output.abs().gt_(threshold)
        return active.sum(others, dtype=torch.promote_types(active.dtype, torch.float32)).long()
    count = torch.zeros((), dtype=torch.int64, device=output.device)
    for part in output.split(max(1, piece * output.shape[cut] // numbers), cut):
        count = count + _count_in_pieces(part, others, threshold, piece)
    return count
