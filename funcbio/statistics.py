"""Statistics of a layer: of the whole if it is sharded, and the same on any number of threads and under vmap."""

import torch
from torch import Tensor

from funcbio.sharding import is_distributed, reduced

CHUNK = 4096  # Short enough that the backend never splits one sum over threads.


def total(values: Tensor) -> Tensor:
    """Sums all elements in a fixed order, in float32 or better.

    A plain ``sum`` splits large tensors by thread and by batch, so that a mask drawn against a layer's
    standard deviation could differ between a vmapped run and a loop.
    """
    if is_distributed(values):
        return reduced(values, total)
    flat = values.flatten().to(torch.promote_types(values.dtype, torch.float32))
    whole = flat.numel() - flat.numel() % CHUNK
    if whole == 0:
        return flat.sum()
    rows = flat[:whole].reshape(-1, CHUNK).sum(-1)
    return total(torch.cat((rows, flat[whole:].sum().reshape(1))))


def mean(values: Tensor) -> Tensor:
    """Mean of all elements, in float32 or better; 0 of none."""
    # Divided first: the sum of large numbers may overflow where their mean does not.
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return total(wide / max(values.numel(), 1))


def count(mask: Tensor) -> Tensor:
    """Number of True elements."""
    return reduced(mask, torch.sum) if is_distributed(mask) else mask.sum()


def largest(magnitude: Tensor) -> Tensor:
    """Largest of numbers that are not negative; 0 of none, as a process that holds no row has."""
    if is_distributed(magnitude):
        return reduced(magnitude, largest, "max")
    return magnitude.amax() if magnitude.numel() else magnitude.new_zeros(())
