"""The draws of a forward pass that a sweep takes over, as torch makes them but from a key.

Calls of a form that is not supported here, or that torch refuses, are left to torch: handlers return NotImplemented.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

SELU_NEGATIVE = -1.7580993408473766
"""Value of a dropped unit in alpha dropout: the limit of SELU, minus its scale times its alpha."""


class Source(Protocol):
    """Describes a source of random numbers."""

    def uniform(self, shape: torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws the next uniform numbers."""
        ...

    def normal(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Draws the next normal numbers."""
        ...


def without_handlers(function: Any) -> Any:
    """Returns a copy of torch's function that does not look for handlers, so that it runs while a mode is active."""
    checks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    names = {**vars(F), **dict.fromkeys(checks, _nothing_handles)}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__)


def _nothing_handles(*_: Any) -> bool:
    return False


def is_chance(p: Any) -> bool:
    """Returns True for a number from 0 to 1; others torch refuses, or reads from a tensor."""
    return isinstance(p, int | float) and 0.0 <= p <= 1.0


def dropped(source: Source, values: Tensor, p: float, *, channels: bool = False) -> Tensor:
    """Zeroes elements, or whole channels, with probability p, and scales the others."""
    if p in (0.0, 1.0):
        return values if p == 0.0 else _gone(values)
    return torch.where(_keep(source, values, p, channels), values / (1.0 - p), 0.0)


def _alpha_dropped(source: Source, values: Tensor, p: float, *, channels: bool = False) -> Tensor:
    if p in (0.0, 1.0):
        return values if p == 0.0 else _gone(values)
    scale = ((1.0 - p) * (1.0 + p * SELU_NEGATIVE**2)) ** -0.5
    masked = torch.where(_keep(source, values, p, channels), values, SELU_NEGATIVE)
    return scale * (masked - p * SELU_NEGATIVE)


def _gone(values: Tensor) -> Tensor:
    """Returns zeros that can be differentiated, as torch's."""
    return values.masked_fill(torch.ones_like(values, dtype=torch.bool), 0.0)


def _keep(source: Source, values: Tensor, p: float, channels: bool) -> Tensor:
    """Tosses a coin for every element, or every channel: True keeps it."""
    shape = torch.Size([*values.shape[:2], *[1] * (values.ndim - 2)]) if channels else values.shape
    return source.uniform(shape) >= p


def _dropout(rule: Any, *, channels: bool = False, inplace: bool = False) -> Callable[..., Any]:
    """Makes the handler of one kind of dropout."""

    def handler(source: Source, input: Tensor, p: float, train: bool) -> Any:
        if not is_chance(p) or not plain(input) or (channels and input.ndim < 2):
            return NotImplemented
        if not train or p == 0.0 or input.numel() == 0:
            return input
        if not input.is_floating_point():
            return NotImplemented
        values = rule(source, input, p, channels=channels)
        return input.copy_(values) if inplace else values

    return handler


def plain(tensor: Tensor) -> bool:
    """Returns True for a dense tensor."""
    return tensor.layout == torch.strided and not tensor.is_nested


def _rand_like(source: Source, input: Tensor, **options: Any) -> Any:
    return _like(source.uniform, input, **options)


def _randn_like(source: Source, input: Tensor, **options: Any) -> Any:
    return _like(source.normal, input, **options)


def _like(
    draw: Any, input: Tensor, *, dtype: torch.dtype | None = None, device: Any = None, **others: Any
) -> Tensor | Any:
    dtype = input.dtype if dtype is None else dtype
    if any(value not in (None, False) for value in others.values()) or not plain(input) or not dtype.is_floating_point:
        return NotImplemented
    return draw(input.shape, dtype).to(input.device if device is None else device)


def _bernoulli(source: Source, input: Tensor, *p: Any, **options: Any) -> Any:
    # As in torch, p comes by name or by position, and None is refused.
    keywords = {"p": p[0], **options} if p else dict(options)
    chance = keywords.pop("p", input)
    supported = is_chance(chance) if chance is not input else input.is_floating_point()
    if any(value is not None for value in keywords.values()) or not supported or not plain(input) or input.is_complex():
        return NotImplemented
    heads = (source.uniform(input.shape) < chance).to(input.dtype)
    # Torch's can be differentiated, with a gradient of zero.
    return torch.where(torch.ones_like(heads, dtype=torch.bool), heads, input) if input.is_floating_point() else heads


DRAWS: dict[Any, Callable[..., Any]] = {
    torch.dropout: _dropout(dropped),
    torch.dropout_: _dropout(dropped, inplace=True),
    torch.feature_dropout: _dropout(dropped, channels=True),
    torch.feature_dropout_: _dropout(dropped, channels=True, inplace=True),
    torch.alpha_dropout: _dropout(_alpha_dropped),
    torch.alpha_dropout_: _dropout(_alpha_dropped, inplace=True),
    torch.feature_alpha_dropout: _dropout(_alpha_dropped, channels=True),
    torch.feature_alpha_dropout_: _dropout(_alpha_dropped, channels=True, inplace=True),
    torch.rand_like: _rand_like,
    torch.randn_like: _randn_like,
    torch.bernoulli: _bernoulli,
    Tensor.bernoulli: _bernoulli,
}
