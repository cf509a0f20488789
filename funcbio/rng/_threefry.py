"""Threefry-2x32, a counter-based generator, in int32 tensor operations."""

import torch
from torch import Tensor

from funcbio.base import Key

ROUNDS = 13  # The fewest the authors report to pass BigCrush; 20 took 1.5 times as long.
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA


def threefry2x32(key: Key, low: Tensor, high: Tensor, *, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Hashes 64-bit counters with a key: two random int32 words for each counter.

    Args:
        key: int32, shape ``(2,)``.
        low: First counter word, int32, any shape.
        high: Second counter word, int32, broadcast with ``low``.
        rounds: 13 or 20 are the published variants.

    Returns:
        The two words, int32, of the broadcast shape.

    References:
        Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    schedule = (key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ PARITY)
    x, y = low + schedule[0], high + schedule[1]
    for i in range(rounds):
        # The first sum makes a fresh tensor that no input shares; from there on everything is in place.
        x = x + y if i == 0 else x.add_(y)
        y = _rotate(y, ROTATIONS[i % 8]) ^ x if i == 0 else _rotate(y, ROTATIONS[i % 8]).bitwise_xor_(x)
        if i % 4 == 3:
            inject = i // 4 + 1
            x.add_(schedule[inject % 3])
            y.add_(schedule[(inject + 1) % 3]).add_(inject)
    return x, y


def _rotate(word: Tensor, by: int) -> Tensor:
    wrapped = torch.bitwise_right_shift(word, 32 - by).bitwise_and_((1 << by) - 1)
    return word.bitwise_left_shift_(by).bitwise_or_(wrapped)
