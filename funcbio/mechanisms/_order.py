"""Ranks of elements within a layer: which are the smallest, to the element; ties go by position."""

import torch
from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """Returns the rank of every element within the whole tensor, from 0 for the smallest; equal ones in their order."""
    order = values.reshape(-1).argsort(stable=True)
    places = torch.arange(order.numel(), device=order.device)
    return torch.zeros_like(order).scatter(0, order, places).reshape(values.shape)


def lowest(values: Tensor, count: Tensor, among: Tensor | None = None) -> Tensor:
    """Returns a mask of the ``count`` smallest elements, if asked only of some of them; nan counts as the largest."""
    if among is None:
        return ranks(values) < count
    top = torch.finfo(values.dtype).max  # So that nothing outside comes before anything inside.
    values = torch.where(among, torch.nan_to_num(values, nan=top, posinf=top), torch.inf)
    return (ranks(values) < count) & among


def highest(values: Tensor, count: Tensor, among: Tensor) -> Tensor:
    """Returns a mask of the ``count`` largest elements among some; equal ones in their order, nan as the smallest."""
    return lowest(-values, count, among)
