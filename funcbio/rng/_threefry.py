"""Threefry-2x32, a counter-based generator, in int32 tensor operations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from funcbio.base import Key
from funcbio.tensors._arithmetic import constant

ROUNDS = 13  # The fewest the authors report to pass BigCrush; 20 took 1.5 times as long.
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA


def threefry2x32(key: Key, low: Tensor, high: Tensor, *, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Hashes 64-bit counters with a key: two random int32 words for each counter.

    Args:
        key: int32, shape ``(..., 2)`` where ``...`` broadcasts with the counters.
        low: First counter word, int32, of the full shape.
        high: Second counter word, int32, broadcast with ``low``.
        rounds: 13 or 20 are the published variants.

    Returns:
        The two words, int32, of the broadcast shape.

    References:
        Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    operand = constants()
    schedule = (key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ operand(PARITY))
    x, y = low + schedule[0], high + schedule[1]
    for i in range(rounds):
        # The first sum makes a fresh tensor that no input shares; from there on everything is in place.
        x = x + y if i == 0 else x.add_(y)
        y = _rotate(y, ROTATIONS[i % 8], operand)
        y = y ^ x if i == 0 else y.bitwise_xor_(x)
        if i % 4 == 3:
            inject = i // 4 + 1
            x.add_(schedule[inject % 3])
            y.add_(schedule[(inject + 1) % 3] + operand(inject))
    return x, y


def _rotate(word: Tensor, by: int, operand: Callable[[float], Any]) -> Tensor:
    wrapped = torch.bitwise_right_shift(word, operand(32 - by)).bitwise_and_(operand((1 << by) - 1))
    if torch.compiler.is_compiling():  # Two shifts become one instruction there.
        return torch.bitwise_left_shift(word, by) | wrapped
    return wrapped.add_(word, alpha=1 << by)


def constants(dtype: torch.dtype = torch.int32) -> Callable[[float], Any]:
    """Returns a function that turns a number into an operand: outside of tracing, into a 0-d tensor that is kept.

    Torch wraps a number anew in every call, which takes longer than an operation on some thousand elements; so does
    a tensor of another type than that of the other operand.
    """
    return _as_it_is if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0 else OPERANDS[dtype]


def _as_it_is(value: float) -> float:
    return value


OPERANDS = {dtype: partial(constant, dtype) for dtype in (torch.int32, torch.float32, torch.float64)}
