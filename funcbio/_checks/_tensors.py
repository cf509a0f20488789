"""Types of numbers, and keys."""

import torch
from torch import Tensor

from funcbio.base import brief, is_among, shown

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""The types that weights, gradients and rate factors may have."""


def is_real(value: object) -> bool:
    """Returns True for a tensor of a type that the mechanisms work on."""
    return isinstance(value, Tensor) and value.dtype in FLOATING


def require_key(key: object) -> None:
    """Raises ValueError if an argument is not a key, as ``funcbio.key`` makes it."""
    if not (isinstance(key, Tensor) and key.dtype == torch.int32 and key.shape == (2,)):
        raise ValueError(f"key should be an int32 tensor of shape (2,) made by funcbio.key; found {shown(key)}")


def require_dtype(dtype: object) -> None:
    """Raises ValueError if numbers of a type cannot be drawn."""
    if not is_among(dtype, FLOATING):
        raise ValueError(f"dtype should be one of {', '.join(map(str, FLOATING))}; found {brief(dtype)}")
