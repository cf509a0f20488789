"""The description of a tensor: a checksum, and a few numbers that distinguish rounding from other values."""

import ctypes
import hashlib
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

PARTS = 4
"""Parts of a tensor, each with numbers of its own."""

LEADING = 4
"""Elements of each part that are written as they are."""

ROUNDINGS = 64
"""Units in the last place by which elements may differ between machines."""


def describe_tensor(value: Tensor, *, computed: bool = False) -> dict[str, Any]:
    """Returns kind, checksum and numbers of a tensor, wherever it is and however it lies in memory.

    Args:
        value: A tensor.
        computed: Whether operations computed it; then numbers may differ by the rounding of many operations.

    Raises:
        Exception: Any, if the tensor does not give its values.
    """
    kind = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}{' trained' * value.requires_grad}"
    plain = value.detach().cpu().resolve_conj().resolve_neg()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    if plain.is_quantized:
        kind += f" {plain.q_scale()} {plain.q_zero_point()}"
        plain = plain.int_repr()
    content = _bytes_of(plain.contiguous().reshape(-1).view(torch.uint8))
    entry = {"tensor": kind, "digest": hashlib.sha256(content).hexdigest()[:16]}
    if not (plain.is_floating_point() or plain.is_complex()):
        return entry
    real = torch.view_as_real(plain) if plain.is_complex() else plain
    epsilon = torch.finfo(real.dtype).eps
    tolerance = epsilon**0.5 if computed else ROUNDINGS * epsilon
    return entry | {"computed": computed, "numbers": _numbers(real.reshape(-1)), "tolerance": tolerance}


def _bytes_of(content: Tensor) -> Any:
    """Returns the bytes of a tensor of them; without numpy, which torch does without too, as a copy."""
    if find_spec("numpy") is not None:
        return content.numpy().data
    if type(content) is not Tensor:  # Others may have no memory of their own.
        raise TypeError(f"{type(content).__name__} should be a plain tensor")
    return ctypes.string_at(content.data_ptr(), content.numel())


def _numbers(values: Tensor) -> str:
    """Returns mean magnitude, mean and first elements of every part, as text."""
    digits = 17 if values.dtype == torch.float64 else 9
    numbers: list[float] = []
    for part in values.chunk(PARTS) if len(values) else ():
        wide = part.to(torch.promote_types(part.dtype, torch.float32))
        means = [wide.abs().mean(dtype=torch.float64), wide.mean(dtype=torch.float64)]
        numbers += [*map(float, (*means, *wide[:LEADING])), *[0.0] * (LEADING - len(part))]
    return " ".join(f"{number:.{digits}g}" for number in numbers)


def nearly_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Returns True if two tensors differ by rounding only, as far as their numbers show it."""
    if one["tensor"] != other["tensor"] or "numbers" not in one or "numbers" not in other:
        return False
    first, second = (list(map(float, each["numbers"].split())) for each in (one, other))
    scales = [first[at - at % (LEADING + 2)] for at in range(len(first))]
    return len(first) == len(second) and all(
        a == b or (a != a and b != b) or abs(a - b) <= one["tolerance"] * (scale + abs(a))
        for a, b, scale in zip(first, second, scales, strict=True)
    )
