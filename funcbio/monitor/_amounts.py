"""Amounts that add up over layers: the value of one layer and that of the whole model come from one formula."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.engine._statistics import mean, total, totals


class Mean(NamedTuple):
    """Holds a sum and the number of its terms."""

    total: Tensor
    number: Any

    @staticmethod
    def pool(items: Sequence["Mean"]) -> Tensor:
        """Returns the mean of all terms; nan if there are none."""
        return sum_of([item.total for item in items]) / sum(item.number for item in items)


class Spread(NamedTuple):
    """Holds mean, variance and number of some values."""

    mean: Tensor
    variance: Tensor
    number: int

    @staticmethod
    def pool(items: Sequence["Spread"]) -> Tensor:
        """Returns the standard deviation of all values, over their number."""
        number = sum(item.number for item in items)
        centre = sum_of([item.mean * (item.number / number) for item in items])
        parts = [(item.variance + (item.mean - centre).square()) * (item.number / number) for item in items]
        return sum_of(parts).sqrt()


class Norm(NamedTuple):
    """Holds a sum of squares."""

    squares: Tensor

    @staticmethod
    def pool(items: Sequence["Norm"]) -> Tensor:
        """Returns the Euclidean norm of all values."""
        return sum_of([item.squares for item in items]).sqrt()


class Ratio(NamedTuple):
    """Holds the sums of squares of some values and of those that they are compared with."""

    squares: Tensor
    of: Tensor

    @staticmethod
    def pool(items: Sequence["Ratio"]) -> Tensor:
        """Returns the ratio of the Euclidean norms of all values; nan or infinite if they are compared with zeros."""
        return sum_of([item.squares for item in items]).sqrt() / sum_of([item.of for item in items]).sqrt()


class PerLayer(NamedTuple):
    """Holds a value that belongs to one layer."""

    value: Tensor

    @staticmethod
    def pool(items: Sequence["PerLayer"]) -> Tensor:
        """Returns the mean over layers."""
        return sum_of([item.value for item in items]) / len(items)


Amount = Mean | Spread | Norm | Ratio | PerLayer


def pool(items: Sequence[Any]) -> Tensor:
    """Returns the value of amounts of one kind, on the device of the first."""
    kind, device = type(items[0]), items[0][0].device
    moved = [kind(*(part.to(device) if isinstance(part, Tensor) else part for part in item)) for item in items]
    return kind.pool(moved)


def sum_of(numbers: Sequence[Tensor]) -> Tensor:
    """Sums 0-d tensors."""
    return numbers[0] if len(numbers) == 1 else torch.stack([*torch.broadcast_tensors(*numbers)]).sum(0)


def mean_of(values: Tensor) -> Mean:
    """Computes the mean of all elements, or a share if they are truth values."""
    return Mean(total(values), values.numel())


def spread_of(values: Tensor) -> Spread:
    """Computes mean and variance of all elements."""
    centre = mean(values)
    return Spread(centre, mean(values, lambda part: (part.to(centre.dtype) - centre).square()), values.numel())


def norm_of(values: Tensor) -> Norm:
    """Computes the sum of the squares of all elements."""
    wide = torch.promote_types(values.dtype, torch.float32)
    square: Callable[[Tensor], tuple[Tensor]] = lambda part: (part.to(wide).square(),)  # noqa: E731
    return Norm(totals(values, square)[0])


def quantiles_of(tensors: Sequence[Tensor], levels: Sequence[float]) -> list[Tensor]:
    """Computes quantiles of all elements together, with linear interpolation between neighbours.

    ``torch.quantile`` sorts as well, but refuses more than 16 million elements and vmaps one by one.
    """
    if not levels:
        return []
    device = tensors[0].device
    flat = torch.cat([tensor.flatten().to(device) for tensor in tensors]).sort().values
    wide = torch.promote_types(flat.dtype, torch.float32)
    quantiles = []
    for level in levels:
        place = level * (flat.numel() - 1)
        low = int(place)
        high = min(low + 1, flat.numel() - 1)
        quantiles.append(torch.lerp(flat[low].to(wide), flat[high].to(wide), place - low))
    return quantiles
