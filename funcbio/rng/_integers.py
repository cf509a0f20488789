"""Whole numbers and orders: random batches, the rows of an epoch, pixels in new places."""

import torch
from torch import Tensor

from funcbio._checks import plain_integer, require, shown
from funcbio.base import Key
from funcbio.rng._keys import INTEGERS
from funcbio.rng._samplers import require_broadcast, uniform
from funcbio.rng._streams import Shape, words_at

MOST_WIDTH = 1 << 31
"""Most values of a draw: a product of a word and the width then fits into 64 bits."""

WORD = (1 << 32) - 1


def randint(
    key: Key, low: int | Tensor, high: int | Tensor, shape: Shape = (), *, stream: str = "", offset: int = 0
) -> Tensor:
    """Draws whole numbers from ``low`` to ``high - 1``, each with the same chance: the rows of a random batch.

    A number is a share of the width by 64 random bits, so that chances differ by a factor of 1 + 2^-33 at most. All
    arithmetic is in integers: every device gives the same numbers.

    Args:
        key: The key; the same key gives the same numbers.
        low: Smallest number: an integer, or a tensor of integers that broadcasts to ``shape``.
        high: One above the largest number, likewise; at most 2^31 above ``low``.
        shape: Shape of the result.
        stream: Name of an independent stream of numbers under the same key.
        offset: Number of elements of the stream to skip.

    Returns:
        int64 tensor on the device of ``key``. The first numbers of a longer draw are those of a shorter one.

    Raises:
        ValueError: If an end is no integer or tensor of integers, or two integers are not in order or too far apart.
            Values of tensors are not checked.

    Example:
        >>> x = torch.arange(100.0)
        >>> batch = x[randint(key(0), 0, len(x), (16,))]
        >>> batch.shape
        torch.Size([16])
    """
    low, high = (end if isinstance(end, Tensor) else plain_integer(end) for end in (low, high))
    for name, end in {"low": low, "high": high}.items():
        _require_end(name, end)
    words = words_at(key, shape, stream=stream, offset=offset)
    for name, end in {"low": low, "high": high}.items():
        if isinstance(end, Tensor):
            require_broadcast(name, end, shape)
    if not isinstance(low, Tensor) and not isinstance(high, Tensor):
        require("high", high, f"above low, {low}, by at most {MOST_WIDTH}", 1 <= high - low <= MOST_WIDTH)
    first, second = (word.to(torch.int64) & WORD for word in words)
    low, high = (end.to(key.device, torch.int64) if isinstance(end, Tensor) else end for end in (low, high))
    width = high - low
    return low + ((first * width + ((second * width) >> 32)) >> 32)


def _require_end(name: str, end: int | Tensor) -> None:
    """Raises ValueError if an end of a range is no integer, and no tensor of integers."""
    if isinstance(end, Tensor):
        whole = not (end.is_floating_point() or end.is_complex() or end.dtype == torch.bool)
    else:
        whole = isinstance(end, INTEGERS) and not isinstance(end, bool) and -(1 << 63) <= end <= 1 << 63
    if not whole:
        order = ": the order is randint(key, low, high, shape)" if isinstance(end, tuple | list) else ""
        raise ValueError(f"{name} should be an integer of 64 bits, or a tensor of integers; found {shown(end)}{order}")


def permutation(key: Key, n: int, *, stream: str = "") -> Tensor:
    """Draws an order of the numbers from 0 to ``n - 1``: the order of examples in an epoch, new places of pixels.

    It is the order of ``n`` uniform numbers of 24 bits; of two that are equal the first comes first, so that a pair
    keeps its order with a chance of 1/2 + 2^-25. The first numbers of a longer order are not those of a shorter one;
    the first k are k different numbers, drawn without replacement.

    Args:
        key: The key; the same key gives the same order.
        n: How many numbers.
        stream: Name of an independent stream of numbers under the same key.

    Returns:
        int64 tensor of shape ``(n,)`` on the device of ``key``.

    Raises:
        ValueError: If ``n`` is no integer >= 0.

    Example:
        >>> order = permutation(fold_in(key(0), 3), 100)  # Of the third epoch.
        >>> batches = order.split(16)
        >>> bool((order.sort().values == torch.arange(100)).all())
        True
    """
    n = plain_integer(n)
    require("n", n, "an integer >= 0", isinstance(n, INTEGERS) and not isinstance(n, bool) and n >= 0)
    return uniform(key, (n,), stream=stream).argsort(stable=True)
