"""Decisions for every weight: as numbers 1 and 0 in eager mode, where torch is several times slower with bools."""

import torch
from torch import Tensor

from funcbio.base import Number


def above(first: Tensor, second: Number) -> Tensor:
    """Where the first is larger; nowhere if one of them is no number."""
    return first > second if torch.compiler.is_compiling() else (first - second).sign_().relu_()


def either(first: Tensor, second: Tensor) -> Tensor:
    """Where one of two masks says yes."""
    return first | second if torch.compiler.is_compiling() else torch.maximum(first, second)


def choose(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """New values where a mask says yes, the old ones elsewhere; in the type of ``old``.

    All must be finite, and of the two no difference may overflow.
    """
    new = new.to(old.dtype)
    if torch.compiler.is_compiling():
        return torch.where(mask, new, old)
    return torch.lerp(old, new, mask.to(old.dtype))  # Exact at both ends.
