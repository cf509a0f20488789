"""Arithmetic that gives the same numbers by every door: one type to compute in, and one rounding at the end.

Where all tensors have one type, neither their dimensions nor a transform decides in which type torch computes.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from funcbio.base import Number
from funcbio.tensors._kept import is_watched, kept


def work_type(values: Iterable[Any]) -> torch.dtype:
    """Returns the type to compute in: float32, or the smallest that holds it and every floating type of the tensors."""
    work = torch.float32
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            work = torch.promote_types(work, value.dtype)
    return work


def widened(values: Tensor) -> Tensor:
    """Returns a tensor in the type to compute in."""
    return values.to(work_type([values]))


def number(value: Number, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns a hyper-parameter as a tensor of no dimensions, so that a number acts as a tensor does."""
    if isinstance(value, Tensor):
        return value if value.dtype is dtype and value.device == device else value.to(device, dtype)
    value = value + 0.0  # Turns -0.0 into 0.0: the cache takes them for equal.
    if is_watched():  # Whatever watches has to see the tensor made.
        return torch.full((), value, dtype=dtype, device=device)
    return constant(dtype, value, device)


@kept(1024)
def constant(dtype: torch.dtype, value: float, device: torch.device | str = "cpu") -> Tensor:
    """Returns a number as a tensor that is kept: making one takes longer than computing with it."""
    return torch.full((), value, dtype=dtype, device=device)  # A copy to a GPU would make the CPU wait for it.


def exact(value: Number) -> Number:
    """Returns a hyper-parameter as precise as Python's numbers are, for arithmetic before it meets a tensor."""
    return value.to(_widest(value)) if isinstance(value, Tensor) else value


def _widest(values: Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "mps" else torch.float64  # There is no float64 on that device.


def rounded(values: Tensor, dtype: torch.dtype, *, finite: bool = False) -> Tensor:
    """Returns values in another type; with ``finite``, those that it cannot hold become its largest."""
    top = torch.finfo(dtype).max
    if finite and torch.finfo(values.dtype).max > top:
        values = values.clamp(-top, top)
    return values.to(dtype)


def may_write() -> bool:
    """Returns True if operations may write into tensors that nobody else has: none is recorded, traced or mapped."""
    return not (torch.is_grad_enabled() or is_watched())


def spare(values: Tensor) -> Tensor | None:
    """Returns a tensor that nobody else has, as the place of a result; None where nothing may be written."""
    return values if may_write() else None


def product(grad: Tensor, factor: Tensor, *, fresh: bool = False) -> Tensor:
    """Returns a gradient times a factor; where that is nan, as infinity times 0, the gradient as it was.

    So a gradient that has overflowed stays infinite whatever the factor, and ``GradScaler`` finds it.

    Args:
        grad: The gradient.
        factor: The factor.
        fresh: Whether nobody else has the factor, so that the product may take its place.
    """
    result = torch.mul(grad, factor, out=spare(factor) if fresh else None)
    if is_surely_finite(result):  # Comparing all elements takes longer.
        return result
    return torch.where(result == result, result, grad)


def is_surely_finite(values: Tensor) -> bool:
    """Returns True if all elements are known to be finite, as a sum shows; False if they may not be asked."""
    return _may_be_asked(values) and math.isfinite(float(values.detach().sum()))


def _may_be_asked(values: Tensor) -> bool:
    return type(values) is Tensor and values.device.type == "cpu" and not is_watched()


def power(base: Tensor, exponent: Number) -> Tensor:
    """Returns ``base ** exponent`` of numbers >= 0, by logarithms in a wider type.

    ``torch.pow`` rounds otherwise at the end of a tensor than within, so that a number would depend on its place.
    """
    wide = _widest(base)
    top = torch.finfo(wide).max
    logarithm = torch.log(base.to(wide)).clamp(-top, top)  # Of 0 it is infinite, and 0 ** 0 is 1.
    return torch.exp(exact(exponent) * logarithm).to(base.dtype)


def unit(values: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """Returns values divided by their Euclidean norm along some dimensions, else all; zeros stay zeros.

    The largest is divided out first: squares of small gradients would be zero.
    """
    if not values.numel():
        return values
    dims = tuple(range(values.ndim)) if dims is None else dims
    top = values.abs().amax(dims, keepdim=True)
    scaled = values / torch.where(top > 0.0, top, 1.0)
    norm = scaled.square().sum(dims, keepdim=True).sqrt()
    return scaled / torch.where(top > 0.0, norm, 1.0)


def signed(values: Tensor, sign: Tensor | None) -> Tensor:
    """Returns new weights with the signs of their units; those of units without one as they are."""
    return values if sign is None else torch.where(sign == 0.0, values, torch.copysign(values, sign))
