"""Bounds of numbers that may be tensors."""

import torch
from torch import Tensor

from funcbio.base._types import Number


def clamp(values: Tensor, low: Number, high: Number | None = None) -> Tensor:
    """Clamps to bounds, each a number or, as sweeps need, a tensor of the type of ``values``."""
    values = torch.clamp(values, min=low)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return values if high is None else torch.clamp(values, max=high)  # pyright: ignore[reportCallIssue, reportArgumentType]


def at_least(number: Number, low: float) -> Number:
    """Returns the larger of a hyper-parameter and a bound."""
    return number.clamp_min(low) if isinstance(number, Tensor) else max(number, low)
