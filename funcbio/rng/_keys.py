"""Keys: made from a seed, split, and derived from step numbers and names."""

import torch
from torch import Tensor

from funcbio._checks import brief, plain_integer, require_key
from funcbio.base import Key
from funcbio.rng._threefry import threefry2x32
from funcbio.tensors._kept import kept

INTEGERS = (int, torch.SymInt)
MOST_COUNTERS = 1 << 31  # Counters of one stream.
LEAST_SEED, MOST_SEEDS = -(1 << 63), 1 << 64
"""Ends of the integers that a key is made from."""


def key(seed: int | Tensor, *, device: torch.device | str | None = None) -> Key:
    """Makes a key from a seed.

    Args:
        seed: Any integer of up to 64 bits, or an integer tensor of no dimensions (vmap over seeds).
        device: Where the key lives, and draws are made; by default where torch makes tensors.

    Returns:
        int32 tensor of shape ``(2,)``.

    Raises:
        ValueError: If ``seed`` has more than 64 bits or is no integer.

    Example:
        >>> key(0)
        tensor([0, 0], dtype=torch.int32)
        >>> torch.vmap(key)(torch.arange(3)).shape
        torch.Size([3, 2])
    """
    seed = seed if isinstance(seed, Tensor) else plain_integer(seed)
    if not isinstance(seed, int | Tensor):
        raise ValueError(f"seed should be an integer; found {brief(seed)}")
    low, high = _halves("seed", seed, torch.device(device) if device is not None else None)
    return torch.stack((high, low)).to(device)


def fold_in(key: Key, data: int | str | Tensor) -> Key:
    """Derives a new key from a key and some data: a step number, a name, a fold.

    Args:
        key: The key to derive from.
        data: An integer, a string, or an integer tensor of no dimensions (a step under vmap or compile).

    Returns:
        The derived key. An integer gives the same key as a number and as a tensor.

    Raises:
        ValueError: If an integer does not fit into 64 bits, or a tensor is not of integers.

    Example:
        >>> step = fold_in(key(0), 7)
        >>> bool((step == fold_in(key(0), torch.tensor(7))).all())
        True
    """
    require_key(key)
    domain = "fold_in name" if isinstance(data, str) else "fold_in number"
    if isinstance(data, str):
        data = site(data)[0] & 0xFFFFFFFF | (site(data)[1] & 0xFFFFFFFF) << 32
    low, high = _halves("data", data, key.device)
    tag_low, tag_high = site(domain)
    return torch.stack(threefry2x32(key, low ^ tag_low, high ^ tag_high))


def split(key: Key, count: int = 2) -> Tensor:
    """Derives several keys from one.

    Args:
        key: The key to derive from; do not use it again.
        count: How many.

    Returns:
        int32 tensor of shape ``(count, 2)``: unpack it, or vmap over it.

    Example:
        >>> first, second = split(key(0))
        >>> split(key(0), 5).shape
        torch.Size([5, 2])
    """
    require_key(key)
    count = plain_integer(count)
    if not isinstance(count, INTEGERS) or isinstance(count, bool) or not 0 <= count < MOST_COUNTERS:
        raise ValueError(f"count should be an integer >= 0; found {brief(count)}")
    tag_low, tag_high = site("split")
    # A bitwise operation first: arithmetic on an arange becomes index arithmetic in the compiler, and overflows.
    low = torch.arange(count, dtype=torch.int32, device=key.device) ^ tag_high
    return torch.stack(threefry2x32(key, low, torch.full_like(low, tag_low)), dim=-1)


def _halves(name: str, data: int | Tensor, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """Returns the low and high 32 bits of an integer, as int32 tensors; ``name`` is that of the argument."""
    if isinstance(data, Tensor):
        if data.ndim:
            raise ValueError(f"{name} should be an integer tensor of no dimensions; found shape {tuple(data.shape)}")
        if data.dtype.is_floating_point or data.dtype.is_complex or data.dtype == torch.bool:
            raise ValueError(f"{name} should be an integer tensor; found dtype {data.dtype}")
        data = data.to(torch.int64)
        return data.to(torch.int32), (data >> 32).to(torch.int32)
    data = plain_integer(data)
    if not isinstance(data, INTEGERS):
        text = ", a name" if name == "data" else ""
        raise ValueError(f"{name} should be an integer{text} or an integer tensor; found {brief(data)}")
    if not LEAST_SEED <= data < MOST_SEEDS:
        raise ValueError(f"{name} should fit into 64 bits; found {data}")
    low, high = _signed(data), _signed(data >> 32)
    return torch.full((), low, dtype=torch.int32, device=device), torch.full((), high, dtype=torch.int32, device=device)


def require_stream(stream: object) -> None:
    """Raises ValueError if the name of a stream is no text."""
    if not isinstance(stream, str):
        raise ValueError(f"stream should be a text; found {brief(stream)}")


def site(name: str) -> tuple[int, int]:
    """Hashes a name to two signed 32-bit words: FNV-1a in plain Python, which compile folds away."""
    require_stream(name)
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return _signed(value), _signed(value >> 32)


def _signed(word: int) -> int:
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >> 31 else word


@kept(16)
def step_of(device: torch.device) -> Tensor:
    """Returns the offset that takes a key to the next one of a run: cheaper than a hash, and no two runs meet.

    Both words are odd numbers: keys that differ in one word only never follow from one another.
    The tensor is kept for the next call: do not write to it.
    """
    return torch.tensor([_signed(0x9E3779B9), _signed(0x85EBCA6B)], dtype=torch.int32, device=device)
