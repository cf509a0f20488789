"""Threefry-2x32, a counter-based generator, in int32 tensor operations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from funcbio.base import Key
from funcbio.tensors._arithmetic import constant
from funcbio.tensors._kept import kept

ROUNDS = 13  # The fewest the authors report to pass BigCrush; 20 took 1.5 times as long.
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
Operands = tuple[Any, list[tuple[Any, Any, int]], list[Any]]


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
    compiling = torch.compiler.is_compiling()
    parity, rotations, injections = _operands(_as_it_is, rounds) if _wants_numbers() else _kept_operands(rounds)
    schedule = (key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ parity)
    x, y = low + schedule[0], high + schedule[1]
    for i in range(rounds):
        # The first sum makes a fresh tensor that no input shares; from there on everything is in place.
        x = x + y if i == 0 else x.add_(y)
        shift, mask, by = rotations[i % 8]
        wrapped = torch.bitwise_right_shift(y, shift).bitwise_and_(mask)
        # Compiled, two shifts become one instruction.
        y = torch.bitwise_left_shift(y, by) | wrapped if compiling else wrapped.add_(y, alpha=1 << by)
        y = y ^ x if i == 0 else y.bitwise_xor_(x)
        if i % 4 == 3:
            inject = i // 4 + 1
            x.add_(schedule[inject % 3])
            y.add_(schedule[(inject + 1) % 3] + injections[inject])
    return x, y


def _operands(operand: Callable[[float], Any], rounds: int) -> Operands:
    """Returns the constants of the hash: the parity, shift, mask and number of every rotation, and what is injected."""
    rotations = [(operand(32 - by), operand((1 << by) - 1), by) for by in ROTATIONS]
    return operand(PARITY), rotations, [operand(number) for number in range(rounds // 4 + 1)]


@kept(8)
def _kept_operands(rounds: int) -> Operands:
    return _operands(partial(constant, torch.int32), rounds)


def _wants_numbers() -> bool:
    """Returns True where constants have to be numbers: in a graph, and under a dispatch mode."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def constants(dtype: torch.dtype = torch.int32) -> Callable[[float], Any]:
    """Returns a function that turns a number into an operand: outside of tracing, into a 0-d tensor that is kept.

    Torch wraps a number anew in every call, which takes longer than an operation on some thousand elements; so does
    a tensor of another type than that of the other operand.
    """
    return _as_it_is if _wants_numbers() else OPERANDS[dtype]


def _as_it_is(value: float) -> float:
    return value


OPERANDS = {dtype: partial(constant, dtype) for dtype in (torch.int32, torch.float32, torch.float64)}
