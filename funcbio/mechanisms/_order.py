"""Ranks of elements within a layer: which are the smallest, to the element; ties go by position."""

import torch
from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """Returns the rank of every element within the whole tensor, from 0 for the smallest; equal ones in their order."""
    order = values.reshape(-1).argsort(stable=True)
    places = torch.arange(order.numel(), device=order.device)
    return torch.zeros_like(order).scatter(0, order, places).reshape(values.shape)


def lowest(values: Tensor, count: Tensor, among: Tensor | None = None) -> Tensor:
    """Returns a mask of the ``count`` smallest elements, if asked only of some of them."""
    if among is not None:
        values = torch.where(among, values, torch.inf)
    return ranks(values) < count


def highest(values: Tensor, count: Tensor, among: Tensor) -> Tensor:
    """Returns a mask of the ``count`` largest elements among some of them; equal ones in their order."""
    return lowest(-values, count, among)
