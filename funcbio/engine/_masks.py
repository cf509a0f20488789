"""Decisions for every weight: as numbers 1 and 0 in eager mode, where torch is several times slower with bools."""

import torch
from torch import Tensor

from funcbio.base import Number
from funcbio.tensors._arithmetic import is_surely_finite, may_write

BITS = {torch.float32: torch.int32, torch.float64: torch.int64}
"""Integers of the size of the types that rules compute in."""


def above(first: Tensor, second: Number) -> Tensor:
    """Returns a mask, shaped like the first, of where that is larger; where one of them is nan, it is not."""
    if torch.compiler.is_compiling():
        return first > second
    if isinstance(second, Tensor) and may_write():
        return torch.gt(first, second, out=torch.empty_like(first))
    return (first - second).sign_().relu_()


def either(first: Tensor, second: Tensor) -> Tensor:
    """Returns a mask of where at least one of two masks is set."""
    return first | second if torch.compiler.is_compiling() else torch.maximum(first, second)


def choose(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Returns the new values where the mask is set, the old ones elsewhere.

    All must be finite or nan, and no difference of new and old may overflow.
    """
    if torch.compiler.is_compiling():
        return torch.where(mask, new, old)
    return torch.lerp(old, new, mask.to(old.dtype))  # Exact at both ends.


def select(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Returns the new values where the mask is set, the old ones elsewhere, to the last bit, whatever they are."""
    if torch.compiler.is_compiling() or not may_write() or old.device.type != "cpu":
        return torch.where(mask.bool(), new, old)
    bits = BITS[old.dtype]  # On a CPU, ``torch.where`` looks at one element after the other.
    every = mask.to(bits).neg_()
    return (old.view(bits) ^ new.view(bits)).bitwise_and_(every).bitwise_xor_(old.view(bits)).view(old.dtype)


def bounded(values: Tensor) -> Tensor:
    """Returns the values; infinite ones become the largest of their type."""
    if is_surely_finite(values):
        return values
    top = torch.finfo(values.dtype).max
    return values.clamp(-top, top)


def finite(values: Tensor) -> Tensor:
    """Returns 1 where a number is finite, 0 where it is not, in the type of ``values``."""
    if torch.compiler.is_compiling():  # Comparisons are vector instructions there, questions for nan are not.
        return (values.abs() <= torch.finfo(values.dtype).max).to(values.dtype)
    if is_surely_finite(values):
        return torch.ones_like(values)
    return torch.nan_to_num(values * 0.0, -1.0) + 1.0


def finite_or(values: Tensor, other: float, where: Tensor | None = None) -> Tensor:
    """Returns the values, with ``other`` for those that are not finite; ``where`` is finite at the same places."""
    where = values if where is None else where
    if torch.compiler.is_compiling():
        return torch.where(where.abs() <= torch.finfo(where.dtype).max, values, other)
    return values if is_surely_finite(where) else torch.nan_to_num(values, other, other, other)


def number_or(values: Tensor, other: float) -> Tensor:
    """Returns the values, with ``other`` in the place of nan; infinite ones become the largest of their type."""
    if torch.compiler.is_compiling():
        top = torch.finfo(values.dtype).max
        return torch.where(values == values, values.clamp(-top, top), other)
    return torch.nan_to_num(values, nan=other)
