"""Amounts that add up over layers: the value of one layer and that of the whole model come from one formula."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.engine._statistics import mean, total, totals


class Mean(NamedTuple):
    """A sum and the number of its terms."""

    total: Tensor
    number: Any

    @staticmethod
    def pool(items: Sequence["Mean"]) -> Tensor:
        """The mean of all terms; nan of none."""
        return sum_of([item.total for item in items]) / sum(item.number for item in items)


class Spread(NamedTuple):
    """Mean and variance of a number of values."""

    mean: Tensor
    variance: Tensor
    number: int

    @staticmethod
    def pool(items: Sequence["Spread"]) -> Tensor:
        """The standard deviation of all values, over their number."""
        number = sum(item.number for item in items)
        centre = sum_of([item.mean * (item.number / number) for item in items])
        parts = [(item.variance + (item.mean - centre).square()) * (item.number / number) for item in items]
        return sum_of(parts).sqrt()


class Norm(NamedTuple):
    """A sum of squares."""

    squares: Tensor

    @staticmethod
    def pool(items: Sequence["Norm"]) -> Tensor:
        """The Euclidean norm of all values."""
        return sum_of([item.squares for item in items]).sqrt()


class PerLayer(NamedTuple):
    """A value that says something about one layer only."""

    value: Tensor

    @staticmethod
    def pool(items: Sequence["PerLayer"]) -> Tensor:
        """The mean over layers."""
        return sum_of([item.value for item in items]) / len(items)


Amount = Mean | Spread | Norm | PerLayer


def pool(items: Sequence[Any]) -> Tensor:
    """The value of amounts of one kind, on the device of the first."""
    kind, device = type(items[0]), items[0][0].device
    moved = [kind(*(part.to(device) if isinstance(part, Tensor) else part for part in item)) for item in items]
    return kind.pool(moved)


def sum_of(numbers: Sequence[Tensor]) -> Tensor:
    """Sum of 0-d tensors."""
    return numbers[0] if len(numbers) == 1 else torch.stack([*torch.broadcast_tensors(*numbers)]).sum(0)


def mean_of(values: Tensor) -> Mean:
    """The mean of all elements, or a share if they are truth values."""
    return Mean(total(values), values.numel())


def spread_of(values: Tensor) -> Spread:
    """The standard deviation of all elements, as values about their mean."""
    centre = mean(values)
    return Spread(centre, mean(values, lambda part: (part.to(centre.dtype) - centre).square()), values.numel())


def norm_of(values: Tensor) -> Norm:
    """The Euclidean norm of all elements."""
    wide = torch.promote_types(values.dtype, torch.float32)
    square: Callable[[Tensor], tuple[Tensor]] = lambda part: (part.to(wide).square(),)  # noqa: E731
    return Norm(totals(values, square)[0])


def quantiles_of(tensors: Sequence[Tensor], levels: Sequence[float]) -> list[Tensor]:
    """Quantiles of all elements together, with linear interpolation between neighbours.

    ``torch.quantile`` sorts as well, but refuses more than 16 million elements and vmaps one by one.
    """
    if not levels:
        return []
    device = tensors[0].device
    flat = torch.cat([tensor.flatten().to(device) for tensor in tensors]).sort().values
    wide = torch.promote_types(flat.dtype, torch.float32)
    found = []
    for level in levels:
        place = level * (flat.numel() - 1)
        low = int(place)
        high = min(low + 1, flat.numel() - 1)
        found.append(torch.lerp(flat[low].to(wide), flat[high].to(wide), place - low))
    return found
