"""The elementary distributions."""

import torch
from torch import Tensor

from funcbio._checks import brief, is_number, require, require_numbers, shown
from funcbio.base import Key, Number
from funcbio.rng._laws import NORMAL, UNIFORM
from funcbio.rng._streams import Shape, draw
from funcbio.tensors._arithmetic import exact, number, work_type


def uniform(
    key: Key,
    shape: Shape = (),
    *,
    low: Number = 0.0,
    high: Number = 1.0,
    dtype: torch.dtype = torch.float32,
    stream: str = "",
    offset: int = 0,
) -> Tensor:
    """Draws from the uniform distribution on [low, high).

    Args:
        key: The key; the same key gives the same numbers.
        shape: Shape of the result.
        low: Lower end, a number or a 0-d tensor.
        high: Upper end; in rounding, a result can equal it.
        dtype: float32 (24 random bits), float64 (53), bfloat16 (8) or float16 (11).
        stream: Name of an independent stream of numbers under the same key.
        offset: Number of elements of the stream to skip.

    Returns:
        Tensor on the device of ``key``.

    Example:
        >>> whole = uniform(key(0), (5,))
        >>> bool((uniform(key(0), (2,), offset=3) == whole[3:]).all())
        True
    """
    require_numbers(low=low, high=high)
    if not isinstance(low, Tensor) and not isinstance(high, Tensor):
        require("high", high, f"low, {low:g}, or more", low <= high)
    unit = draw(UNIFORM, key, [stream], [shape], dtype=dtype, offset=offset)[0]
    if isinstance(low, Tensor) or isinstance(high, Tensor) or (low, high) != (0.0, 1.0):
        return _moved(unit, low, exact(high) - exact(low))
    return unit


def normal(
    key: Key,
    shape: Shape = (),
    *,
    mean: Number = 0.0,
    std: Number = 1.0,
    dtype: torch.dtype = torch.float32,
    stream: str = "",
    offset: int = 0,
) -> Tensor:
    """Draws from the normal distribution, by the transform of Box and Muller.

    A pair of numbers has a radius of 21 random bits and one of 2,048 directions: all lie within 5.396 standard
    deviations of the mean; of true normal numbers one in 15 million lies outside. In float64 both have 32 bits, and
    the furthest is 6.660.

    Args:
        key: The key; the same key gives the same numbers.
        shape: Shape of the result.
        mean: Mean, a number or a 0-d tensor.
        std: Standard deviation, a number or a 0-d tensor.
        dtype: Any floating type.
        stream: Name of an independent stream of numbers under the same key.
        offset: Number of elements of the stream to skip.

    Returns:
        Tensor on the device of ``key``. Compiled and eager results may differ by rounding, 1e-6 at most.

    Example:
        >>> normal(key(0), (2, 3)).shape
        torch.Size([2, 3])
    """
    require_numbers(mean=mean, std=std)
    unit = draw(NORMAL, key, [stream], [shape], dtype=dtype, offset=offset)[0]
    if isinstance(mean, Tensor) or isinstance(std, Tensor) or (mean, std) != (0.0, 1.0):
        return _moved(unit, mean, std)
    return unit


def _moved(unit: Tensor, start: Number, width: Number) -> Tensor:
    """Returns ``start + width * unit``, computed in float32 or better and rounded once."""
    work = work_type([unit])
    start, width = number(start, work, unit.device), number(width, work, unit.device)
    return (start + width * unit.to(work)).to(unit.dtype)


def bernoulli(key: Key, probability: Number = 0.5, shape: Shape = (), *, stream: str = "") -> Tensor:
    """Tosses coins.

    Args:
        key: The key; the same key gives the same tosses.
        probability: Chance of True: a number, or a tensor that broadcasts to ``shape``.
        shape: Shape of the result.
        stream: Name of an independent stream of numbers under the same key.

    Returns:
        bool tensor on the device of ``key``.

    Raises:
        ValueError: If ``probability`` is a number outside [0, 1].

    Example:
        >>> bernoulli(key(0), 1.0, (3,))
        tensor([True, True, True])
    """
    unit = uniform(key, shape, stream=stream)
    if isinstance(probability, Tensor):
        require_broadcast("probability", probability, shape)
        probability = probability.to(unit.dtype)
    elif not is_number(probability) or not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability should be a number in [0, 1], or a tensor; found {brief(probability)}")
    return unit < probability


def require_broadcast(name: str, values: Tensor, shape: Shape) -> None:
    """Raises ValueError if a tensor does not broadcast to a shape."""
    fits = values.ndim <= len(shape) and not values.is_complex()
    sizes = zip(reversed(values.shape), reversed(shape), strict=False)
    if not fits or any(length not in (1, size) for length, size in sizes):
        raise ValueError(f"{name} should broadcast to shape {tuple(shape)}; found {shown(values)}")
